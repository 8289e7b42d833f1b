//! Programs at a real terminal, which tmux plays: what its keys and its end do to a program and to its workers.

fn main() {
    process_pool::init();
    #[cfg(target_os = "linux")]
    xtests::runner::main(linux::CASES);
    #[cfg(not(target_os = "linux"))]
    println!("skipped: it takes Linux's /proc to see who is left\n\n0 passed, 0 failed");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use xtests::cases;
    use xtests::gate::{Gate, PATIENCE, Visitor};
    use xtests::processes::{eventually, is_there, state};
    use xtests::runner::{Case, Subject, skip};

    pub(crate) const CASES: &[Case] = cases![
        ctrl_c_reaches_the_program_which_interrupts_its_pool,
        ctrl_c_ends_a_program_without_a_handler_and_its_workers,
        ctrl_z_stops_the_program_alone_and_it_goes_on_in_the_foreground,
        a_terminal_that_hangs_up_ends_the_program_and_its_workers,
        calls_of_a_program_in_the_background_can_write,
    ];

    /// A shell at a terminal.
    struct Terminal {
        socket: PathBuf,
        server: u32,
    }

    impl Terminal {
        fn open(subject: &Subject) -> Self {
            let quiet = Command::new("tmux").arg("-V").stdout(Stdio::null()).status();
            if quiet.is_err() {
                skip("tmux is not installed");
            }
            let mut terminal = Self { socket: subject.dir.join("tmux"), server: 0 };
            terminal.tmux(&["new-session", "-d", "-x", "150", "-y", "40", "sh", "-i"]);
            terminal.server = terminal.tmux(&["display-message", "-p", "#{pid}"]).parse().expect("a number");
            terminal
        }

        fn tmux(&self, args: &[&str]) -> String {
            let mut command = Command::new("tmux");
            command.arg("-S").arg(&self.socket).args(["-f", "/dev/null"]).args(args);
            let output = command.stdin(Stdio::null()).output().expect("it runs");
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
        }

        fn key(&self, key: &str) {
            self.tmux(&["send-keys", key]);
        }

        fn enter(&self, line: &str) {
            self.tmux(&["send-keys", "-l", line]);
            self.key("Enter");
        }

        fn shows(&self, text: &str) -> bool {
            self.tmux(&["capture-pane", "-p"]).contains(text)
        }

        fn hang_up(&self) {
            self.tmux(&["kill-session"]);
        }
    }

    impl Drop for Terminal {
        fn drop(&mut self) {
            let mut command = Command::new("tmux");
            command.arg("-S").arg(&self.socket).arg("kill-server");
            // With its last session it ends by itself.
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !std::thread::panicking() {
                eventually("the terminal is gone", || !is_there(self.server));
            }
        }
    }

    /// The program, which was started from the shell, and two of its calls, which run.
    struct Started {
        terminal: Terminal,
        gate: Gate,
        notes: PathBuf,
        program: u32,
        visitors: Vec<Visitor>,
    }

    impl Started {
        fn new(subject: &Subject, before: &str, what: &str, after: &str) -> Self {
            let (terminal, gate, notes) = (Terminal::open(subject), Gate::new(), subject.dir.join("notes"));
            let (program, context, port) = (env!("CARGO_BIN_EXE_terminal_program"), &subject.context, gate.port());
            terminal.enter(&format!("{before} {program} {context} {what} {port} {} {after}", notes.display()));
            let visitors = gate.arrivals(2);
            let mut started = Self { terminal, gate, notes, program: 0, visitors };
            let first = started.notes().first().and_then(|line| line.strip_prefix("program ")?.parse().ok());
            started.program = first.expect("it says who it is");
            started
        }

        fn notes(&self) -> Vec<String> {
            let text = std::fs::read_to_string(&self.notes).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }

        /// Its last words, the others being about its calls.
        fn end(&self) -> (Vec<String>, String) {
            eventually("it has come to its end", || {
                self.notes().last().is_some_and(|note| note.starts_with("end"))
            });
            let mut notes = self.notes().split_off(1);
            let end = notes.pop().expect("just seen");
            (notes, end)
        }

        fn pass(&mut self) {
            self.visitors.clear();
            // Those that waited for these.
            (0..3).for_each(|_| self.gate.arrival().pass());
        }

        fn all_gone(&self) {
            assert!(self.visitors.iter().all(|visitor| visitor.is_gone_within(PATIENCE)));
            eventually("the program is gone", || !is_there(self.program));
        }
    }

    fn ctrl_c_reaches_the_program_which_interrupts_its_pool(subject: &Subject) {
        let started = Started::new(subject, "", "handles", "");
        started.terminal.key("C-c");
        let (calls, end) = started.end();
        let stopped = "stopped, the pool was interrupted, signal 15, terminated";
        assert_eq!(calls, [stopped, stopped, "cancelled", "cancelled", "cancelled"]);
        assert_eq!(end, "end, 2 terminated, 0 killed");
        started.all_gone();
        assert!(!started.terminal.shows("panicked"));
    }

    fn ctrl_c_ends_a_program_without_a_handler_and_its_workers(subject: &Subject) {
        let started = Started::new(subject, "", "waits", "");
        started.terminal.key("C-c");
        started.all_gone();
        assert_eq!(started.notes().len(), 1, "it had nothing to say");
    }

    fn ctrl_z_stops_the_program_alone_and_it_goes_on_in_the_foreground(subject: &Subject) {
        let mut started = Started::new(subject, "", "handles", "");
        started.terminal.key("C-z");
        eventually("it has stopped", || state(started.program) == Some('T'));
        for visitor in &started.visitors {
            assert_ne!(state(visitor.pid), Some('T'));
        }
        let second = started.visitors.pop().expect("there are two");
        second.pass();
        started.terminal.enter("fg");
        eventually("it goes on", || state(started.program) != Some('T'));
        started.pass();
        assert_eq!(started.end(), (vec!["done".to_owned(); 5], "end, 0 terminated, 0 killed".to_owned()));
    }

    fn a_terminal_that_hangs_up_ends_the_program_and_its_workers(subject: &Subject) {
        let started = Started::new(subject, "", "waits", "");
        started.terminal.hang_up();
        started.all_gone();
        assert_eq!(started.notes().len(), 1, "it had nothing to say");
    }

    /// Whether the terminal minds that those in the background write to it, or not.
    fn calls_of_a_program_in_the_background_can_write(subject: &Subject) {
        for before in ["stty tostop;", "stty -tostop;"] {
            let mut started = Started::new(subject, before, "writes", "&");
            started.pass();
            assert_eq!(started.end().0, vec!["done"; 5]);
            eventually("it is written", || started.terminal.shows("from a worker"));
            std::fs::remove_file(&started.notes).expect("removed");
        }
    }
}
