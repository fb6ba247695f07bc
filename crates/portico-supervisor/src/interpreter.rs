//! Which Python a worker runs, and whether it has a global interpreter lock (GIL): its number on the scoreboard,
//! and how it is written in the log and by `portico status`.

use std::fmt;

/// The interpreter of a process, for the log and the scoreboard: its version and its GIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// `sys.hexversion`
    version: u32,
    gil: Gil,
}

/// The state of the global interpreter lock, as workers report it and `portico status` shows it: it tells
/// operators whether calls run in parallel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gil {
    /// The interpreter cannot run without it.
    BuiltIn,
    /// Free-threaded, without it.
    Off,
    /// Free-threaded, but it has been turned on.
    On,
}

impl Interpreter {
    /// By `sys.hexversion` and what its lock is.
    pub fn new(version: u32, gil: Gil) -> Self {
        Self { version, gil }
    }

    /// Its version: `3.14.0`, `3.15.0rc1`.
    pub fn version(self) -> String {
        let [major, minor, micro, release] = self.version.to_be_bytes();
        let serial = release & 0xF;
        let stage = match release >> 4 {
            0xA => format!("a{serial}"),
            0xB => format!("b{serial}"),
            0xC => format!("rc{serial}"),
            _ => String::new(),
        };
        format!("{major}.{minor}.{micro}{stage}")
    }

    /// Its lock.
    pub fn gil(self) -> Gil {
        self.gil
    }

    /// Whether there is no GIL.
    pub fn has_no_gil(self) -> bool {
        self.gil == Gil::Off
    }

    /// Whether it is a free-threaded build whose GIL has been turned on.
    pub fn has_gil_turned_on(self) -> bool {
        self.gil == Gil::On
    }

    /// The same with its GIL turned on.
    pub fn with_gil_turned_on(self) -> Self {
        Self { gil: Gil::On, ..self }
    }

    /// As one number, for the scoreboard; never 0.
    pub fn to_number(self) -> u64 {
        let gil = match self.gil {
            Gil::BuiltIn => 0,
            Gil::Off => 1,
            Gil::On => 2,
        };
        gil << u32::BITS | u64::from(self.version)
    }

    /// What [`Interpreter::to_number`] has made; `None` of 0, which stands there before a worker has looked.
    pub fn from_number(number: u64) -> Option<Self> {
        let gil = match number >> u32::BITS {
            0 => Gil::BuiltIn,
            1 => Gil::Off,
            2 => Gil::On,
            _ => return None,
        };
        let version = number as u32;
        (version != 0).then_some(Self { version, gil })
    }
}

/// `Python 3.14.9 free-threaded, GIL off`
impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Python {}", self.version())?;
        f.write_str(match self.gil {
            Gil::BuiltIn => "",
            Gil::Off => " free-threaded, GIL off",
            Gil::On => " free-threaded, GIL on",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_read_back_from_its_number() {
        for gil in [Gil::BuiltIn, Gil::Off, Gil::On] {
            let interpreter = Interpreter::new(0x030E_09F0, gil);
            assert_eq!(Interpreter::from_number(interpreter.to_number()), Some(interpreter));
        }
        assert_eq!(Interpreter::from_number(0), None, "nobody has looked yet");
        assert_eq!(Interpreter::from_number(3 << 32 | 0x030E_09F0), None, "no lock has this number");
    }

    #[test]
    fn an_interpreter_is_written_with_its_lock() {
        let text = |version, gil| Interpreter::new(version, gil).to_string();
        assert_eq!(text(0x030B_07F0, Gil::BuiltIn), "Python 3.11.7");
        assert_eq!(text(0x030E_00A4, Gil::Off), "Python 3.14.0a4 free-threaded, GIL off");
        assert_eq!(text(0x030E_00C1, Gil::On), "Python 3.14.0rc1 free-threaded, GIL on");
        let off = Interpreter::new(0x030E_00F0, Gil::Off);
        assert!(off.has_no_gil() && off.with_gil_turned_on().has_gil_turned_on());
    }
}
