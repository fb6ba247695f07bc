//! What is bound, taken over and left behind, on real sockets.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use portico_config::{Parsed, parse};
use rustix::process::Pid;

use super::*;

fn config(arguments: &[&str]) -> Config {
    match parse(arguments.iter().map(OsString::from), &|_| None) {
        Ok(Parsed::Run(resolved)) => resolved.config,
        _ => panic!("the arguments of a test are valid"),
    }
}

fn bind_unix(path: &Path) -> Listener {
    let bind = format!("unix:{}", path.display());
    Listener::bind_all(&config(&["--bind", &bind])).unwrap().remove(0)
}

/// Accepts from `listener` a connection made to `path`, and sends a byte through it.
fn meets(listener: &Listener, path: &Path) {
    let mut client = UnixStream::connect(path).unwrap();
    let accepted = rustix::net::accept(listener).unwrap();
    UnixStream::from(accepted).write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

/// As another process gets it.
fn hand_over(listener: &Listener) -> (String, OwnedFd) {
    (listener.name().to_owned(), listener.socket.try_clone().unwrap())
}

#[test]
fn a_socket_file_goes_with_the_last_listener_of_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let first = bind_unix(&path);
    let shared = first.share().unwrap();
    assert_eq!((shared.url(), shared.name(), shared.is_unix()), (first.url(), first.name(), true));
    drop(shared.share().unwrap());
    meets(&first, &path);
    drop(first);
    meets(&shared, &path);
    drop(shared);
    assert!(!path.exists());
}

#[test]
fn a_socket_file_is_left_alone_by_other_processes_and_when_it_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let mut inherited = bind_unix(&path);
    Arc::get_mut(inherited.file.as_mut().unwrap()).unwrap().owner = Pid::INIT;
    drop(inherited);
    assert!(path.exists());
    let old = bind_unix(&path); // Nobody listens there any more.
    fs::remove_file(&path).unwrap();
    let new = bind_unix(&path);
    drop(old);
    meets(&new, &path);
}

#[test]
fn what_is_inherited_is_taken_by_its_name_and_the_rest_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, gone) = (folder.path().join("kept.sock"), folder.path().join("gone.sock"));
    let text = |path: &Path| format!("unix:{}", path.display());
    let arguments = ["-b", "127.0.0.1:0", "-b", "127.0.0.1:0", "-b", &text(&kept), "-b", &text(&gone)];
    let old = Listener::bind_all(&config(&arguments)).unwrap();
    let inherited = old.iter().map(hand_over).collect();
    let arguments = ["-b", &text(&kept), "-b", "127.0.0.1:0", "-b", "[::1]:0", "-b", "127.0.0.1:0"];
    let mut new = Listener::take_over(&config(&arguments), inherited).unwrap();
    assert_eq!([new[1].url(), new[3].url()], [old[0].url(), old[1].url()]);
    assert!(new[2].url().starts_with("http://[::1]:"), "it is bound afresh");
    meets(&new.remove(0), &kept);
    let moved = folder.path().join("moved.sock");
    fs::rename(&gone, &moved).unwrap();
    drop(old);
    // A child of another test has every descriptor for a moment, until it executes its program.
    let until = Instant::now() + Duration::from_secs(10);
    let refused = loop {
        match UnixStream::connect(&moved) {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < until, "somebody still listens there"),
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "nobody listens there any more");
}

#[test]
fn what_is_at_the_path_of_a_socket_by_now_is_not_touched() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (path, victim) = (folder.path().join("app.sock"), folder.path().join("victim"));
    let bind = format!("unix:{}", path.display());
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    let old = bind_unix(&path);
    assert_eq!(mode(&path), 0o666);
    let open = config(&["--bind", &bind, "--socket-mode", "600"]);
    let new = Listener::take_over(&open, vec![hand_over(&old)]).unwrap();
    assert_eq!(mode(&path), 0o600, "an upgrade may change it");
    let owner = Owner { user: Some(path.metadata().unwrap().uid()), group: None };
    new[0].give(owner).unwrap();

    fs::write(&victim, "").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
    let other = folder.path().join("other.sock");
    let another = bind_unix(&other);
    let put: [&dyn Fn(); 3] =
        [&|| symlink(&victim, &path).unwrap(), &|| fs::write(&path, "").unwrap(), &|| {
            fs::hard_link(&other, &path).unwrap()
        }];
    for put in put {
        fs::remove_file(&path).unwrap();
        put();
        let error = Listener::take_over(&config(&["--bind", &bind]), vec![hand_over(&old)]).unwrap_err();
        assert!(error.reason.contains("something else is at the path"), "{error}");
        assert!(new[0].give(owner).is_err());
    }
    assert_eq!((mode(&victim), mode(&other)), (0o640, 0o666));
    fs::remove_file(&path).unwrap();
    drop(another);
    let _mine = bind_unix(&path);
    assert!(new[0].give(owner).unwrap_err().to_string().contains("another file by now"));
}

/// Listens on the UNIX socket anew from another process, which lives until its standard input is closed.
fn taken_over(listener: &Listener) -> std::process::Child {
    let socket = std::process::Stdio::from(listener.socket.try_clone().unwrap());
    let script = "import socket, sys; socket.socket(fileno=1).listen(); sys.stderr.write('x'); \
                  sys.stderr.flush(); sys.stdin.read()";
    let mut child = std::process::Command::new("python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(socket)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    child
}

#[test]
fn a_socket_file_is_left_to_the_process_that_took_the_socket_over_while_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    for upgraded in [true, false] {
        let old = bind_unix(&path);
        let mut new = taken_over(&old);
        if !upgraded {
            drop(new.stdin.take());
            new.wait().unwrap();
        }
        drop(old);
        assert_eq!(path.exists(), upgraded);
        drop(new.stdin.take());
        new.wait().unwrap();
    }
}

#[test]
fn one_whose_start_fails_leaves_the_file_to_the_process_that_it_took_the_socket_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let bind = format!("unix:{}", path.display());
    let first = bind_unix(&path);
    let mut old = taken_over(&first);
    let take = || Listener::take_over(&config(&["-b", &bind]), vec![hand_over(&first)]).unwrap();
    let (failed, good) = (take(), take());
    assert_eq!(failed[0].file.as_ref().unwrap().former, Some(Pid::from_child(&old)));
    drop(failed);
    meets(&good[0], &path);
    drop(old.stdin.take());
    old.wait().unwrap();
    drop(good);
    assert!(!path.exists());
}

#[test]
fn a_descriptor_is_taken_by_the_number_that_it_had_at_first() {
    let first = Listener::bind_all(&config(&["-b", "127.0.0.1:0"])).unwrap().remove(0);
    let inherited = vec![("fd:77".to_owned(), first.socket.try_clone().unwrap())];
    let second = Listener::take_over(&config(&["-b", "fd://77"]), inherited).unwrap().remove(0);
    assert_eq!((second.url(), second.name()), (first.url(), "fd:77"));
    let file = vec![("fd:77".to_owned(), fs::File::open("/dev/null").unwrap().into())];
    let error = Listener::take_over(&config(&["-b", "fd://77"]), file).unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on fd://77: "), "{error}");
}

#[test]
fn a_scheme_goes_with_the_listener_also_to_another_process_and_does_not_name_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", folder.path().join("app.sock").display());
    let binds = |schemes: [&str; 3]| {
        let mut config = config(&["-b", "127.0.0.1:0", "-b", &unix, "-b", "fd://77"]);
        for (bind, scheme) in config.binds.iter_mut().zip(schemes) {
            (bind.tls, bind.protocol) = match scheme {
                "https" => (true, WireProtocol::Http),
                "uwsgi" => (false, WireProtocol::Uwsgi),
                _ => (false, WireProtocol::Redirect),
            };
        }
        config
    };
    let passed = Listener::bind_all(&config(&["-b", "127.0.0.1:0"])).unwrap().remove(0);
    let inherited = vec![("fd:77".to_owned(), passed.socket.try_clone().unwrap())];
    let old = Listener::take_over(&binds(["https", "uwsgi", "redirect"]), inherited).unwrap();
    let urls = |listeners: &[Listener]| listeners.iter().map(|it| it.url().to_owned()).collect::<Vec<_>>();
    assert!(urls(&old)[0].starts_with("https://127.0.0.1:"));
    assert_eq!(urls(&old)[1], format!("uwsgi://{unix}"));
    assert!(urls(&old)[2].starts_with("redirect://127.0.0.1:"));
    let told = |listener: &Listener| (listener.server().protocol, listener.server().tls);
    assert_eq!(told(&old[0].share().unwrap()), (WireProtocol::Http, true));
    let new = old.iter().map(hand_over).collect();
    let new = Listener::take_over(&binds(["redirect", "https", "uwsgi"]), new).unwrap();
    assert_eq!(told(&new[0]), (WireProtocol::Redirect, false));
    assert_eq!(told(&new[1]), (WireProtocol::Http, true));
    let port = |listener: &Listener| listener.server().port.clone();
    assert_eq!([port(&new[0]), port(&new[2])], [port(&old[0]), port(&old[2])], "the same sockets");
}

#[test]
fn a_full_backlog_counts_as_listened_on_and_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let bind = format!("unix:{}", path.display());
    let listener = Listener::bind_all(&config(&["--bind", &bind, "--backlog", "1"])).unwrap();
    let _clients: Vec<_> = (0..2).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let error = Listener::bind_all(&config(&["--bind", &bind])).unwrap_err();
    assert_eq!(error.reason, "another process is listening on it");
    drop(listener);
}

#[test]
fn a_backlog_that_the_kernel_lowers_is_told() {
    let config = config(&["--backlog", "2048", "-b", ":0"]);
    assert_eq!(lowered_backlog(&config, 2048), None);
    let warning = lowered_backlog(&config, 128).unwrap();
    assert!(warning.starts_with("--backlog 2048 is lowered to 128 by the kernel"), "{warning}");
    let passed = Config { binds: vec![BindAddress::Fd(3).into()], ..config };
    assert_eq!(lowered_backlog(&passed, 128), None);
}

#[test]
fn a_busy_address_is_tried_five_times_and_taken_once_it_is_free() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(&["--bind", &busy.local_addr().unwrap().to_string()]);
    let mut pauses = Vec::new();
    let mut pause = |time: Duration| {
        pauses.push(time);
        true
    };
    let error = Listener::take_over_in_time(&config, Vec::new(), &mut pause).unwrap_err();
    assert!(error.to_string().contains("another process is listening there"), "{error}");
    assert_eq!(pauses, [Duration::from_secs(1); 4]);
    let mut pauses = 0;
    let mut stop = |_| {
        pauses += 1;
        pauses < 2
    };
    assert!(Listener::take_over_in_time(&config, Vec::new(), &mut stop).is_err());
    assert_eq!(pauses, 2);
    let mut busy = Some(busy);
    let mut end = |_| {
        busy = None;
        true
    };
    assert_eq!(Listener::take_over_in_time(&config, Vec::new(), &mut end).unwrap().len(), 1);
}

#[test]
fn an_address_that_is_not_there_is_tried_again_and_what_is_refused_for_good_is_not() {
    let tries = |bind: &str| {
        let mut pauses = 0;
        let mut pause = |_| {
            pauses += 1;
            true
        };
        let bound = Listener::take_over_in_time(&config(&["--bind", bind]), Vec::new(), &mut pause);
        assert!(bound.is_err(), "{bind}");
        pauses
    };
    assert_eq!(tries("192.0.2.1:0"), 4);
    assert_eq!(tries("fd://77"), 0);
    assert_eq!(tries("unix:/no/such/folder/a.sock"), 0);
}
