//! The syntax of nginx's configuration: words, `;`, blocks, quotes and comments, as `ngx_conf_read_token` reads
//! them. It knows no directive.
//!
//! The crates that read it (nginx-config, nginx-discovery) know a closed list of directives, or keep no lines,
//! which every note names.

/// A directive with its arguments and, if it is a block, what stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NginxDirective {
    pub name: String,
    pub arguments: Vec<String>,
    pub block: Option<Vec<NginxDirective>>,
    /// File and line.
    pub place: String,
}

/// Blocks within blocks. nginx itself has three; more is no configuration.
const DEPTH_MAX: usize = 16;

/// What stands between two directives.
#[derive(Debug, PartialEq, Eq)]
enum NginxToken {
    Word(String),
    End,
    Open,
    Close,
}

/// A text that is being read.
struct DirectiveReader<'t> {
    rest: &'t str,
    line: usize,
    file: &'t str,
}

/// Reads a whole file, which is named `file` in places.
///
/// # Errors
/// One line with the place: it is no such configuration.
pub(super) fn parse(text: &str, file: &str) -> Result<Vec<NginxDirective>, String> {
    let mut reader = DirectiveReader { rest: text.trim_start_matches('\u{feff}'), line: 1, file };
    reader.block(0)
}

impl NginxDirective {
    /// The first argument, or nothing.
    pub(super) fn first(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    /// Whether it says `on`.
    pub(super) fn is_on(&self) -> bool {
        self.first() == "on"
    }

    /// All of it but its block, on one line.
    pub(super) fn shown(&self) -> String {
        let words = [std::slice::from_ref(&self.name), &self.arguments[..]].concat().join(" ");
        words.trim().replace(|letter: char| letter.is_control(), " ")
    }
}

impl DirectiveReader<'_> {
    /// The directives up to the end of a block, or of the file where `depth` is 0.
    fn block(&mut self, depth: usize) -> Result<Vec<NginxDirective>, String> {
        if depth > DEPTH_MAX {
            return Err(self.problem("blocks are nested too deeply"));
        }
        let (mut found, mut words, mut begun): (_, Vec<String>, _) = (Vec::new(), Vec::new(), self.line);
        loop {
            let token = self.token()?;
            match token {
                Some(NginxToken::Word(word)) => {
                    if words.is_empty() {
                        begun = self.line;
                    }
                    words.push(word);
                }
                Some(NginxToken::End | NginxToken::Open) if words.is_empty() => {
                    return Err(self.problem("a directive is expected here"));
                }
                Some(NginxToken::End | NginxToken::Open) => {
                    let place = format!("{}:{begun}", self.file);
                    let block = match token {
                        Some(NginxToken::Open) => Some(self.block(depth + 1)?),
                        _ => None,
                    };
                    let name = words.remove(0);
                    found.push(NginxDirective { name, arguments: std::mem::take(&mut words), block, place });
                }
                Some(NginxToken::Close) | None if !words.is_empty() => {
                    return Err(self.problem(&format!("{} has no ; behind it", words[0])));
                }
                Some(NginxToken::Close) if depth == 0 => return Err(self.problem("this } closes nothing")),
                None if depth > 0 => return Err(self.problem("a } is missing at the end of the file")),
                Some(NginxToken::Close) | None => return Ok(found),
            }
        }
    }

    fn problem(&self, problem: &str) -> String {
        format!("{}:{}: {problem}", self.file, self.line)
    }

    fn take(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = &self.rest[letter.len_utf8()..];
        self.line += usize::from(letter == '\n');
        Some(letter)
    }

    fn token(&mut self) -> Result<Option<NginxToken>, String> {
        loop {
            let Some(letter) = self.rest.chars().next() else { return Ok(None) };
            let token = match letter {
                ' ' | '\t' | '\r' | '\n' => None,
                '#' => {
                    let end = self.rest.find('\n').unwrap_or(self.rest.len());
                    self.rest = &self.rest[end..];
                    continue;
                }
                ';' => Some(NginxToken::End),
                '{' => Some(NginxToken::Open),
                '}' => Some(NginxToken::Close),
                '"' | '\'' => {
                    self.take();
                    return self.quoted(letter).map(|word| Some(NginxToken::Word(word)));
                }
                _ => return Ok(Some(NginxToken::Word(self.word()))),
            };
            self.take();
            if token.is_some() {
                return Ok(token);
            }
        }
    }

    /// A word without quotes. `${` does not begin a block.
    fn word(&mut self) -> String {
        let (mut word, mut before) = (String::new(), ' ');
        while let Some(letter) = self.rest.chars().next() {
            match letter {
                ' ' | '\t' | '\r' | '\n' | ';' => break,
                '{' if before != '$' => break,
                '\\' => self.escape(&mut word),
                _ => {
                    self.take();
                    word.push(letter);
                }
            }
            before = letter;
        }
        word
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut word = String::new();
        loop {
            match self.rest.chars().next() {
                None => return Err(self.problem(&format!("a {quote} is missing"))),
                Some('\\') => self.escape(&mut word),
                Some(letter) => {
                    self.take();
                    if letter == quote {
                        break;
                    }
                    word.push(letter);
                }
            }
        }
        match self.rest.chars().next() {
            None | Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | ')') => Ok(word),
            Some(letter) => Err(self.problem(&format!("a space is expected before {letter:?}"))),
        }
    }

    /// A backslash goes only before quotes and itself; those of regular expressions stay.
    fn escape(&mut self, word: &mut String) {
        self.take();
        match self.take() {
            Some(letter @ ('"' | '\'' | '\\')) => word.push(letter),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(letter) => word.extend(['\\', letter]),
            None => word.push('\\'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(directives: &[NginxDirective]) -> String {
        let one = |it: &NginxDirective| {
            let block = it.block.as_ref().map(|block| format!("{{{}}}", shown(block))).unwrap_or_default();
            format!("{}{:?}{block}@{}", it.name, it.arguments, it.place.trim_start_matches("f:"))
        };
        directives.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn directives_blocks_quotes_and_comments() {
        for (text, expected) in [
            ("", ""),
            ("# only this", ""),
            ("a b;c;", "a[\"b\"]@1 c[]@1"),
            ("a\n b # c;\n d;", "a[\"b\", \"d\"]@1"),
            ("http{\nserver {\n}\n}\n", "http[]{server[]{}@2}@1"),
            ("location ~ \\.php$ { }", "location[\"~\", \"\\\\.php$\"]{}@1"),
            ("a \"b; {#\" 'c\\'d';", "a[\"b; {#\", \"c'd\"]@1"),
            ("a ${b}c$d;", "a[\"${b}c$d\"]@1"),
            ("a b#c;", "a[\"b#c\"]@1"),
            ("a \"x\ny\"\n;\nb;", "a[\"x\\ny\"]@1 b[]@4"),
            ("a x\\ty\\\\.z;", "a[\"x\\ty\\\\.z\"]@1"),
            ("a{b c{d;}}e;", "a[]{b[\"c\"]{d[]@1}@1}@1 e[]@1"),
            ("\u{feff}a \u{e4};", "a[\"\u{e4}\"]@1"),
        ] {
            let read = parse(text, "f").unwrap_or_else(|problem| panic!("{text}: {problem}"));
            assert_eq!(shown(&read), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_its_line() {
        for (text, expected) in [
            ("a", "f:1: a has no ;"),
            ("a\nb }", "f:2: a has no ;"),
            ("a {\n", "f:2: a } is missing"),
            ("}", "f:1: this } closes nothing"),
            (";", "f:1: a directive is expected"),
            ("{}", "f:1: a directive is expected"),
            ("a 'b", "f:1: a ' is missing"),
            ("a 'b'c;", "f:1: a space is expected before 'c'"),
            ("bind = ['127.0.0.1:8000']\n", "f:2: bind has no ;"),
        ] {
            let problem = parse(text, "f").unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
        let deep = |depth: usize| format!("{}{}", "a{".repeat(depth), "}".repeat(depth));
        assert!(parse(&deep(DEPTH_MAX), "f").is_ok());
        assert!(parse(&deep(DEPTH_MAX + 1), "f").unwrap_err().contains("too deeply"));
    }
}
