//! The part of the standard harness's command line that people, cargo and cargo-nextest use.

/// What the runner was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) filters: Vec<String>,
    pub(crate) skip: Vec<String>,
    pub(crate) exact: bool,
    pub(crate) list: bool,
    pub(crate) terse: bool,
    /// Only those that are known to fail.
    pub(crate) ignored: bool,
    /// Those too.
    pub(crate) include_ignored: bool,
    pub(crate) nocapture: bool,
    pub(crate) threads: Option<usize>,
    /// Not for people: run the one case, here.
    pub(crate) one: bool,
}

impl Args {
    /// Reads the arguments of a program, its own name left out.
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let (flag, mut value) = match arg.split_once('=') {
                Some((flag, value)) if flag.starts_with("--") => (flag.to_owned(), Some(value.to_owned())),
                _ => (arg, None),
            };
            let mut value = || value.take().or_else(|| args.next()).ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--exact" => parsed.exact = true,
                "--list" => parsed.list = true,
                "--ignored" => parsed.ignored = true,
                "--include-ignored" => parsed.include_ignored = true,
                "--nocapture" | "--no-capture" => parsed.nocapture = true,
                "--one" => parsed.one = true,
                "--skip" => parsed.skip.push(value()?),
                "--format" => parsed.terse = value()? == "terse",
                "--test-threads" => {
                    let text = value()?;
                    let threads = text.parse().ok().filter(|threads| *threads > 0);
                    parsed.threads = Some(threads.ok_or(format!("`{text}` is no number of threads"))?);
                }
                // They mean something to the standard harness, and nothing here.
                "--color" | "-Z" | "--logfile" => drop(value()?),
                "--show-output" | "--quiet" | "-q" => {}
                _ if flag.starts_with('-') => return Err(format!("unknown option `{flag}`")),
                _ => parsed.filters.push(flag),
            }
        }
        Ok(parsed)
    }

    /// Whether the case of this name is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let matches = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skip.iter().any(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    fn parse(line: &str) -> Args {
        Args::parse(line.split_whitespace().map(str::to_owned)).expect("a good line")
    }

    #[test]
    fn a_filter_is_a_part_of_the_name_and_exact_is_all_of_it() {
        assert!(parse("pipe::sub").wants("exec+pipe::submit"));
        assert!(!parse("pipe::sub --exact").wants("exec+pipe::submit"));
        assert!(parse("--exact exec+pipe::submit --nocapture").wants("exec+pipe::submit"));
        assert!(!parse("--skip submit").wants("exec+pipe::submit"));
    }

    #[test]
    fn values_come_with_an_equals_sign_or_as_the_next_argument() {
        assert_eq!(
            parse("--test-threads=3 --format terse --list"),
            parse("--list --format=terse --test-threads 3")
        );
        assert_eq!(parse("--test-threads=3").threads, Some(3));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert!(Args::parse(["--frobnicate".to_owned()]).is_err());
        assert!(Args::parse(["--test-threads".to_owned(), "0".to_owned()]).is_err());
    }
}
