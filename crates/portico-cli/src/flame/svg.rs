//! A profile as a picture: a flame graph with the requests on top and what they called below, each as wide as the
//! time that was spent in it, and above it the hottest lines.
//!
//! The file stands alone: no script, no font and nothing else from elsewhere. Details are titles, which browsers
//! show under the pointer. Frames of one function are one box, whatever their lines; its title has the lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::hottest::HotLine;
use super::{About, Profile, ProfileFrame, Spent, percent, seconds};

/// A function in its place below others, with the time in it and in what it called.
#[derive(Debug, Default)]
struct Node<'a> {
    total: u64,
    own: u64,
    /// The time by lines.
    lines: BTreeMap<u32, u64>,
    below: BTreeMap<(&'a str, &'a str), (&'a ProfileFrame, Node<'a>)>,
}

/// A picture that is being drawn.
struct Drawing {
    text: String,
    /// Time of the whole width.
    all: u64,
    boxes: usize,
    left_out: usize,
}

/// A place in the picture.
#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: usize,
}

/// Width of the picture, and what is left of it for boxes.
const WIDTH: usize = 1200;
const MARGIN: usize = 16;
const INNER: f64 = (WIDTH - 2 * MARGIN) as f64;

/// Heights of a line of text, of a row of the hottest lines and of a row of boxes.
const TEXT_LINE: usize = 17;
const HOT_ROW: usize = 22;
const BOX_ROW: usize = 20;

/// Width of a character of the fonts that are named.
const CHARACTER: f64 = 7.23;

/// Characters of a note that fit into a line.
const NOTE_CHARACTERS: usize = 158;

/// The hottest lines that are shown.
const HOT_LINES: usize = 6;

/// Narrower boxes would not be seen.
const NARROWEST: f64 = 0.4;

/// Boxes of a picture. A browser shows so many at once.
const BOXES_MAX: usize = 12_000;

/// Where light or dark is asked for, the picture is so; boxes have the same colours and dark text in both.
const STYLE: &str = "\
svg{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;max-width:100%;height:auto}\
.back{fill:#fff}.ink{fill:#1b1f24}.dim{fill:#59636e}.head{font-size:17px;font-weight:600}.sub{font-weight:600}\
.bar{fill:#ffd9b8}.rail{fill:#f3f4f6}\
g.box text{fill:#1b1f24;pointer-events:none}g.box rect{stroke:#fff;stroke-width:.6}\
g.box:hover rect{stroke:#111;stroke-width:1.5}\
.all rect{fill:#d8dee4}.tag rect{fill:#1f6f78}g.tag text{fill:#fff}.note rect{fill:#eceff2;stroke-dasharray:3 2}\
.a0 rect{fill:#ff9d5c}.a1 rect{fill:#ffb066}.a2 rect{fill:#ffc070}.a3 rect{fill:#ff8f6b}.a4 rect{fill:#fcd07b}\
.l0 rect{fill:#b9cbe0}.l1 rect{fill:#c6d3e6}.l2 rect{fill:#adc3d6}.l3 rect{fill:#c9d8dc}\
@media(prefers-color-scheme:dark){.back{fill:#14181d}.ink{fill:#e6edf3}.dim{fill:#9aa5b1}\
.bar{fill:#7a4a22}.rail{fill:#1f252c}g.box rect{stroke:#14181d}g.box:hover rect{stroke:#fff}}";

impl Profile {
    /// The picture.
    pub(crate) fn svg(&self, about: &About) -> String {
        let mut root = Node::default();
        for (stack, spent) in &self.stacks {
            root.add(stack, *spent);
        }
        let mut drawing = Drawing { text: String::new(), all: root.total.max(1), boxes: 0, left_out: 0 };
        let top = drawing.heading(about, &self.hottest(), self.is_empty());
        let whole = format!("all calls: {}", seconds(root.total));
        if !self.is_empty() {
            drawing.push_box("all", Place { x: MARGIN as f64, y: top }, INNER, &[&*whole], &whole);
        }
        let depth = drawing.draw(&root, Place { x: MARGIN as f64, y: top + BOX_ROW });
        if drawing.left_out > 0 {
            let text = format!("{} boxes are too narrow to be shown.", drawing.left_out);
            drawing.push_text("dim", MARGIN, depth + TEXT_LINE, &text);
        }
        let height = depth + 2 * TEXT_LINE;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"back\" width=\"100%\" height=\"100%\"/>\n{}</svg>\n",
            escape(&about.title),
            drawing.text
        )
    }
}

impl<'a> Node<'a> {
    fn add(&mut self, stack: &'a [ProfileFrame], spent: Spent) {
        self.total = self.total.saturating_add(spent.micros);
        let Some((first, rest)) = stack.split_first() else {
            self.own = self.own.saturating_add(spent.micros);
            return;
        };
        let key = (&*first.function, &*first.file);
        let (_, node) = self.below.entry(key).or_insert_with(|| (first, Node::default()));
        let of_line = node.lines.entry(first.line).or_default();
        *of_line = of_line.saturating_add(spent.micros);
        node.add(rest, spent);
    }

    /// What was called, the longest first.
    fn sorted(&self) -> Vec<(&'a ProfileFrame, &Node<'a>)> {
        let mut below: Vec<_> = self.below.values().map(|(frame, node)| (*frame, node)).collect();
        below.sort_by(|a, b| b.1.total.cmp(&a.1.total).then_with(|| a.0.cmp(b.0)));
        below
    }
}

impl Drawing {
    /// What stands above the boxes. Returns where these begin.
    fn heading(&mut self, about: &About, hottest: &[HotLine<'_>], is_empty: bool) -> usize {
        let mut y = 30;
        self.push_text("ink head", MARGIN, y, &about.title);
        y += 6;
        for line in about.notes.iter().flat_map(|note| wrapped(note, NOTE_CHARACTERS)) {
            y += TEXT_LINE;
            self.push_text("dim", MARGIN, y, &line);
        }
        y += TEXT_LINE + 12;
        if is_empty {
            self.push_text("ink sub", MARGIN, y, "No call ran meanwhile.");
            return y + TEXT_LINE;
        }
        self.push_text("ink sub", MARGIN, y, "Hottest lines (time in the line itself)");
        y += 8;
        for line in hottest.iter().take(HOT_LINES).filter(|line| line.own > 0) {
            self.push_hot_line(line, y);
            y += HOT_ROW;
        }
        y += 18;
        self.push_text("ink sub", MARGIN, y, "Calls, from the request downwards");
        let mut x = MARGIN + 300;
        for (class, text) in
            [("tag", "request"), ("a1", "application"), ("l0", "library"), ("note", "no Python code")]
        {
            let _ = writeln!(
                self.text,
                "<g class=\"box {class}\"><rect x=\"{x}\" y=\"{}\" width=\"14\" height=\"12\" rx=\"2\"/></g>",
                y - 10
            );
            self.push_text("dim", x + 20, y, text);
            x += 44 + (text.len() as f64 * CHARACTER) as usize;
        }
        y + 12
    }

    fn push_hot_line(&mut self, line: &HotLine<'_>, y: usize) {
        let width = INNER * line.own as f64 / self.all as f64;
        let label =
            format!("{:>7} {:>8}  {}", percent(line.own, self.all), seconds(line.own), line.frame.label());
        let _ = writeln!(
            self.text,
            "<rect class=\"rail\" x=\"{MARGIN}\" y=\"{y}\" width=\"{INNER}\" height=\"19\" rx=\"2\"/>\
             <rect class=\"bar\" x=\"{MARGIN}\" y=\"{y}\" width=\"{width:.1}\" height=\"19\" rx=\"2\"/>"
        );
        let label = shortened(&label, (INNER / CHARACTER) as usize - 2).unwrap_or_default();
        self.push_text("ink", MARGIN + 6, y + 14, &label);
    }

    /// Draws what is below `node`, from `place` on. Returns where the lowest box ends.
    fn draw(&mut self, node: &Node<'_>, place: Place) -> usize {
        let (mut x, mut lowest) = (place.x, place.y);
        for (frame, below) in node.sorted() {
            let width = INNER * below.total as f64 / self.all as f64;
            if width < NARROWEST || self.boxes >= BOXES_MAX {
                self.left_out += 1;
                continue;
            }
            let at = Place { x, y: place.y };
            self.push_frame(frame, below, at, width);
            lowest = lowest.max(self.draw(below, Place { y: place.y + BOX_ROW, ..at }));
            x += width;
        }
        lowest.max(if node.below.is_empty() { place.y } else { place.y + BOX_ROW })
    }

    fn push_frame(&mut self, frame: &ProfileFrame, node: &Node<'_>, place: Place, width: f64) {
        let (share, total) = (percent(node.total, self.all), seconds(node.total));
        let class = class_of(frame, place.y);
        if frame.is_note() {
            let title = format!("{}\n{total}, {share} of all", frame.function);
            let label = format!("{}  {share}", frame.function);
            return self.push_box(class, place, width, &[&*label, &*frame.function], &title);
        }
        let mut lines: Vec<(&u32, &u64)> = node.lines.iter().collect();
        lines.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let told: Vec<String> =
            lines.iter().take(5).map(|(line, micros)| format!("{line} ({})", seconds(**micros))).collect();
        let own = seconds(node.own);
        let title = format!(
            "{}\n{}\n{total}, {share} of all; {own} in itself\nlines: {}",
            frame.function,
            frame.file,
            told.join(", ")
        );
        let line = lines.first().map_or(0, |(line, _)| **line);
        let place_of = format!("{} {}:{line}", frame.function, frame.short_file());
        let last = frame.function.rsplit('.').next().unwrap_or_default();
        self.push_box(class, place, width, &[&*place_of, &*frame.function, last], &title);
    }

    /// A box with the first of `labels` that fits; or with as much of the last as does.
    fn push_box(&mut self, class: &str, place: Place, width: f64, labels: &[&str], title: &str) {
        self.boxes += 1;
        let Place { x, y } = place;
        let _ = write!(
            self.text,
            "<g class=\"box {class}\"><title>{}</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" \
             height=\"{}\" rx=\"2\"/>",
            escape(title),
            BOX_ROW - 1
        );
        let room = ((width - 8.0) / CHARACTER).max(0.0) as usize;
        let fitting = labels.iter().find(|label| columns(label) <= room).map(|label| (*label).to_owned());
        let label = fitting.or_else(|| shortened(labels.last().copied().unwrap_or_default(), room));
        if let Some(label) = label {
            let _ =
                write!(self.text, "<text x=\"{:.2}\" y=\"{}\">{}</text>", x + 4.0, y + 14, escape(&label));
        }
        self.text.push_str("</g>\n");
    }

    fn push_text(&mut self, class: &str, x: usize, y: usize, text: &str) {
        let _ = writeln!(
            self.text,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" xml:space=\"preserve\">{}</text>",
            escape(text)
        );
    }
}

/// The colour of a box: by whose code it is, and the shade tells neighbours apart.
fn class_of(frame: &ProfileFrame, y: usize) -> &'static str {
    const APPLICATION: [&str; 5] = ["a0", "a1", "a2", "a3", "a4"];
    const LIBRARY: [&str; 4] = ["l0", "l1", "l2", "l3"];
    let shade = frame
        .file
        .bytes()
        .fold(y / BOX_ROW % 2, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    match frame.is_note() {
        true if frame.function.starts_with('[') => "note",
        true => "tag",
        false if frame.is_library() => LIBRARY[shade % LIBRARY.len()],
        false => APPLICATION[shade % APPLICATION.len()],
    }
}

/// `text` for XML. What it must not hold at all has been taken out where it was read.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Columns that `text` takes: characters of East Asia take two.
fn columns(text: &str) -> usize {
    text.chars().map(|character| if character >= '\u{1100}' { 2 } else { 1 }).sum()
}

/// As much of `text` as fits into `room` columns, if that says anything.
fn shortened(text: &str, room: usize) -> Option<String> {
    if columns(text) <= room {
        return Some(text.to_owned());
    }
    if room < 3 {
        return None;
    }
    let mut left = room - 1;
    let fits = |character: &char| {
        let width = if *character >= '\u{1100}' { 2 } else { 1 };
        let is_fitting = width <= left;
        left = left.saturating_sub(width);
        is_fitting
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    cut.push('\u{2026}');
    Some(cut)
}

/// `text` in lines of at most `width` characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flame::testing::profile;

    fn about() -> About {
        About { title: "A <title>".to_owned(), notes: vec!["One & two.".to_owned()] }
    }

    fn boxes(svg: &str) -> Vec<&str> {
        svg.split("<g class=\"box").skip(1).filter(|rest| rest.contains("<title>")).collect()
    }

    #[test]
    fn a_box_is_as_wide_as_its_time() {
        let svg = profile(&[
            ("/slow;view app.py 7;query db.py 9", 6_000_000),
            ("/slow;view app.py 8", 2_000_000),
            ("/fast", 2_000_000),
        ])
        .svg(&about());
        let of = |name: &str| {
            let title = format!("<title>{name}");
            let found = boxes(&svg).into_iter().find(|rest| rest.contains(&title)).unwrap();
            found.split(" width=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        let width = |share: f64| format!("{:.2}", INNER * share);
        assert_eq!((of("all calls"), of("/slow"), of("/fast")), (width(1.0), width(0.8), width(0.2)));
        assert_eq!((of("view"), of("query")), (width(0.8), width(0.6)));
        assert!(
            svg.contains("8.00 s, 80.0 % of all; 2.00 s in itself\nlines: 7 (6.00 s), 8 (2.00 s)"),
            "{svg}"
        );
    }

    #[test]
    fn whatever_a_client_or_an_application_says_stays_text() {
        let evil = "<script>alert(1)</script>\"'&]]>";
        let mut found = Profile::default();
        let key = |kind: u8, text: &str| ([&[kind], text.as_bytes()].concat(), 0, 0);
        found.read([
            key(b'T', &format!("GET /{evil}\u{1}\u{202e}")),
            key(b'F', &format!("{evil}\0{evil}\x003")),
            ([&b"S"[..], &0_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat(), 5, 1),
        ]);
        let svg = found.svg(&About { title: evil.to_owned(), notes: vec![evil.to_owned()] });
        assert!(!svg.contains("<script") && !svg.contains('\u{1}') && !svg.contains('\u{202e}'), "{svg}");
        assert!(svg.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;]]&gt;"));
        // Elements and attributes are ours alone.
        let names: std::collections::BTreeSet<&str> = svg
            .split('<')
            .skip(1)
            .filter_map(|rest| rest.split([' ', '>', '/']).find(|it| !it.is_empty()))
            .collect();
        let known = ["g", "rect", "style", "svg", "text", "title"];
        assert_eq!(names.into_iter().collect::<Vec<_>>(), known);
    }

    #[test]
    fn a_profile_without_calls_says_so() {
        let svg = profile(&[]).svg(&about());
        assert!(svg.contains("No call ran meanwhile.") && boxes(&svg).is_empty());
        assert!(svg.contains("<title>A &lt;title&gt;</title>") && svg.contains("One &amp; two."));
    }

    #[test]
    fn many_boxes_are_bounded_and_counted() {
        let stacks: Vec<(String, u64)> = (0..20_000)
            .map(|index| (format!("GET /;f{index} app.py 7"), if index < 2 { 1_000_000 } else { 1 }))
            .collect();
        let stacks: Vec<(&str, u64)> = stacks.iter().map(|(text, micros)| (&**text, *micros)).collect();
        let svg = profile(&stacks).svg(&about());
        assert_eq!(boxes(&svg).len(), 4);
        assert!(svg.contains("19998 boxes are too narrow to be shown."));
        let deep = (0..DEEP).map(|index| format!(";f{index} app.py 7")).collect::<String>();
        let svg = profile(&[(&*format!("GET /{deep}"), 5)]).svg(&about());
        assert_eq!(boxes(&svg).len(), DEEP + 2);
    }

    const DEEP: usize = 255;

    #[test]
    fn labels_are_cut_to_their_box() {
        assert_eq!(shortened("abcdef", 6).as_deref(), Some("abcdef"));
        assert_eq!(shortened("abcdef", 4).as_deref(), Some("abc\u{2026}"));
        assert_eq!(shortened("abcdef", 2), None);
        assert_eq!(shortened("\u{65e5}\u{672c}\u{8a9e}", 4).as_deref(), Some("\u{65e5}\u{2026}"));
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
    }
}
