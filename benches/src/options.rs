//! What the command line says.

/// How to use this program.
pub(crate) const USAGE: &str =
    "usage: pool-bench [--workload NAME,…] [--context NAME…] [--rounds N] [--quick] [--strict]
                  [--json FILE] [--markdown]
  --workload  some of w1, w2, w2x, w3, w4, w5, w6, w7, w8, mixed,
              recycling (all)
  --context   what to hold against the others, such as exec+pipe (every start method over every transport;
              with --quick, exec and forkserver over pipe and shm)
  --rounds    how many rounds, whose medians count (5; 1 with --quick)
  --quick     a fraction of the calls, in a minute: to see that it runs; its figures are rough
  --strict    a must that is missed, or that could not be measured, is a failure
  --json      writes the tables to this file too: an array of {\"workload\", \"subject\", \"value\", \"unit\"}
  --markdown  prints one table for a README, instead of all";

/// The options of a run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// All, if empty.
    pub(crate) workloads: Vec<String>,
    /// The usual ones, if empty.
    pub(crate) contexts: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    pub(crate) strict: bool,
    /// Where to write the rows.
    pub(crate) json: Option<String>,
    pub(crate) markdown: bool,
}

impl Options {
    /// # Errors
    /// What is wrong with the arguments.
    pub(crate) fn read(args: &[String]) -> Result<Self, String> {
        let mut options = Self {
            workloads: Vec::new(),
            contexts: Vec::new(),
            rounds: 0,
            quick: false,
            strict: false,
            json: None,
            markdown: false,
        };
        let mut args = args.iter().peekable();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--strict" => options.strict = true,
                "--markdown" => options.markdown = true,
                "--json" => {
                    let file = args.next_if(|next| !next.starts_with("--"));
                    options.json = Some(file.ok_or("--json takes a file's name")?.clone());
                }
                "--rounds" => {
                    let number = args.next().ok_or("--rounds takes a number")?;
                    let rounds = number.parse().ok().filter(|rounds| *rounds > 0);
                    options.rounds = rounds.ok_or(format!("--rounds takes a number from 1, not `{number}`"))?;
                }
                "--workload" | "--context" => {
                    let list = if arg == "--workload" { &mut options.workloads } else { &mut options.contexts };
                    let before = list.len();
                    while let Some(names) = args.next_if(|next| !next.starts_with("--")) {
                        list.extend(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
                    }
                    if list.len() == before {
                        return Err(format!("{arg} takes names"));
                    }
                }
                other => return Err(format!("unknown argument: {other}")),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 1 } else { 5 };
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn read(line: &str) -> Result<Options, String> {
        Options::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_separated_by_commas_or_spaces() {
        let options = read("--context exec+pipe fork+ipc --workload w1,w2 --rounds 3 --quick").unwrap();
        assert_eq!(options.contexts, ["exec+pipe", "fork+ipc"]);
        assert_eq!(options.workloads, ["w1", "w2"]);
        assert_eq!((options.rounds, options.quick, options.strict), (3, true, false));
    }

    #[test]
    fn rounds_are_five_and_with_quick_one_unless_told() {
        let rounds = ["", "--quick", "--quick --rounds 2", "--rounds 7 --quick"];
        assert_eq!(rounds.map(|line| read(line).unwrap().rounds), [5, 1, 2, 7]);
    }

    #[test]
    fn rows_go_to_the_file_that_is_named() {
        assert_eq!(read("--json rows.json --quick").unwrap().json.as_deref(), Some("rows.json"));
        assert_eq!(read("--markdown").unwrap().json, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--rounds 0",
            "--rounds",
            "--rounds many",
            "--context --quick",
            "--fast",
            "w1",
            "--json",
            "--json --quick",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
