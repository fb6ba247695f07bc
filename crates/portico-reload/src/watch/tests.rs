//! Real folders, with both ways to notice.

use std::fs;

use super::*;

const ENGINES: [ReloadEngine; 2] = [ReloadEngine::Inotify, ReloadEngine::Poll];

/// Longer than it takes to notice.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longer than it takes to look.
const MOMENT: Duration = Duration::from_millis(450);

fn config(engine: ReloadEngine, extra: &[&str]) -> Config {
    let mut arguments = vec!["--reload".to_owned(), "--bind=127.0.0.1:0".to_owned()];
    arguments.extend(extra.iter().map(|glob| format!("--reload-extra-file={glob}")));
    match portico_config::parse(arguments.into_iter().map(Into::into), &|_| None) {
        Ok(portico_config::Parsed::Run(mut resolved)) => {
            resolved.config.reload_watch.engine = engine;
            resolved.config
        }
        other => panic!("{other:?}"),
    }
}

fn names(watch: &FileWatch, next: &WatchEvent) -> Vec<String> {
    let WatchEvent::Changed(changes) = next else { return Vec::new() };
    let mut names: Vec<_> = changes.iter().map(|change| watch.name(&change.path).to_string()).collect();
    names.sort();
    names.dedup();
    names
}

fn on_each(extra: &[&str], test: impl Fn(&Path, &mut FileWatch)) {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        for inside in ["blog/templates", ".git", "node_modules/x", "env/lib"] {
            fs::create_dir_all(folder.path().join(inside)).unwrap();
        }
        fs::write(folder.path().join("blog/views.py"), "1").unwrap();
        fs::write(folder.path().join("env/pyvenv.cfg"), "").unwrap();
        let (mut watch, _stop) = FileWatch::new(&config(engine, extra), folder.path()).unwrap();
        test(folder.path(), &mut watch);
    }
}

#[test]
fn what_is_written_replaced_and_removed_is_told() {
    on_each(&[], |folder, watch| {
        fs::write(folder.join("blog/views.py"), "22").unwrap();
        let next = watch.next(PATIENCE);
        assert_eq!(names(watch, &next), ["blog/views.py"]);
        assert!(watch.settle(MOMENT, PATIENCE));
        fs::write(folder.join("blog/views.py.tmp"), "333").unwrap();
        fs::rename(folder.join("blog/views.py.tmp"), folder.join("blog/views.py")).unwrap();
        let next = watch.next(PATIENCE);
        assert_eq!(names(watch, &next), ["blog/views.py"]);
        assert!(watch.settle(MOMENT, PATIENCE));
        fs::remove_file(folder.join("blog/views.py")).unwrap();
        let next = watch.next(PATIENCE);
        assert_eq!(names(watch, &next), ["blog/views.py"]);
    });
}

#[test]
fn what_is_read_counts_in_any_case() {
    on_each(&["conf/*.yaml", ".env", "data", "./texts/"], |folder, watch| {
        for inside in ["conf", "data", "texts", "texts/deep"] {
            fs::create_dir(folder.join(inside)).unwrap();
        }
        watch.settle(MOMENT, PATIENCE);
        let files = ["conf/a.yaml", ".env", "data/numbers.csv", "texts/a.txt", "texts/deep/b.txt"];
        for path in ["blog/templates/a.html"].into_iter().chain(files) {
            fs::write(folder.join(path), path).unwrap();
            let WatchEvent::Changed(changes) = watch.next(PATIENCE) else { panic!("{path} was not told") };
            assert_eq!(changes[0].kind, FileKind::Read, "{path}");
            assert_eq!(watch.name(&changes[0].path).to_string(), path);
            watch.settle(MOMENT, PATIENCE);
        }
    });
}

#[test]
fn what_is_no_concern_of_the_application_is_not_told() {
    on_each(&["conf/*.yaml"], |folder, watch| {
        fs::create_dir(folder.join("conf")).unwrap();
        watch.settle(MOMENT, PATIENCE);
        for path in [
            ".git/index.py",
            "node_modules/x/a.py",
            "env/lib/a.py",
            "blog/.views.py.swp",
            "blog/4913",
            "db.sqlite3",
            "conf/a.json",
        ] {
            fs::write(folder.join(path), "x").unwrap();
        }
        fs::create_dir(folder.join("blog/__pycache__")).unwrap();
        fs::write(folder.join("blog/__pycache__/views.py"), "x").unwrap();
        let _ = fs::read(folder.join("blog/views.py")).unwrap();
        assert_eq!(watch.next(MOMENT), WatchEvent::Quiet);
    });
}

#[test]
fn folders_that_come_are_watched_and_what_they_bring_is_told() {
    on_each(&[], |folder, watch| {
        let elsewhere = tempfile::tempdir_in(folder.parent().unwrap()).unwrap();
        fs::create_dir_all(elsewhere.path().join("shop/pages")).unwrap();
        fs::write(elsewhere.path().join("shop/pages/a.py"), "1").unwrap();
        fs::rename(elsewhere.path().join("shop"), folder.join("shop")).unwrap();
        let next = watch.next(PATIENCE);
        assert_eq!(names(watch, &next), ["shop/pages/a.py"]);
        watch.settle(MOMENT, PATIENCE);
        fs::write(folder.join("shop/pages/b.py"), "1").unwrap();
        let next = watch.next(PATIENCE);
        assert_eq!(names(watch, &next), ["shop/pages/b.py"]);
        watch.settle(MOMENT, PATIENCE);
        fs::rename(folder.join("shop"), elsewhere.path().join("gone")).unwrap();
        let next = watch.next(PATIENCE);
        assert!(names(watch, &next).contains(&"shop".to_owned()), "{next:?}");
    });
}

#[test]
fn imported_files_elsewhere_are_followed() {
    on_each(&[], |_, watch| {
        let elsewhere = tempfile::tempdir().unwrap();
        let file = elsewhere.path().canonicalize().unwrap().join("library.py");
        fs::write(&file, "1").unwrap();
        watch.follow([file.as_path()].into_iter());
        fs::write(&file, "22").unwrap();
        let next = watch.next(PATIENCE);
        assert_eq!(names(watch, &next), [file.display().to_string()]);
    });
}

#[test]
fn a_wait_ends_when_nobody_is_there_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let (mut watch, stop) = FileWatch::new(&config(ReloadEngine::Auto, &[]), folder.path()).unwrap();
    let waiting = std::thread::spawn(move || watch.next(Duration::from_secs(60)));
    drop(stop);
    assert_eq!(waiting.join().unwrap(), WatchEvent::Stopped);
}

#[test]
fn what_is_no_glob_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = FileWatch::new(&config(ReloadEngine::Auto, &["a[".to_owned().as_str()]), folder.path());
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
