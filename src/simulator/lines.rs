//! What was written, and what became of it: known from the writer's side and the cluster's, never asked of logweir.

use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// Written once, with a text of its own.
    Plain,
    /// Refused by the cluster for good: a dead letter.
    Refused,
    /// Left out by a rule of the source.
    Skipped,
    /// The first line of several files.
    Header,
}

#[derive(Debug)]
struct Line {
    sort: Sort,
    text: String,
    /// How often its whole text was written.
    written: u64,
    /// The writer's side destroyed it before it was settled: it need not be there.
    lost_by_the_world: bool,
    /// May be there again, after the loss of the store: a known limit.
    may_repeat: bool,
    documents: u64,
    letters: u64,
}

/// All lines of a history; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    lines: Vec<Line>,
    wrong: Vec<String>,
    died: bool,
}

impl Lines {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("one thread")
    }

    /// A new line, with so many bytes after its number; it is not written yet.
    pub fn make(&self, sort: Sort, padding: usize) -> usize {
        let mut known = self.known();
        let number = known.lines.len();
        let letter = match sort {
            Sort::Plain => 'L',
            Sort::Refused => 'R',
            Sort::Skipped => '#',
            Sort::Header => 'H',
        };
        let mut text = format!("{letter}{number:06} ");
        text.extend(std::iter::repeat_n('x', padding));
        let (written, documents, letters) = (0, 0, 0);
        known.lines.push(Line { sort, text, written, lost_by_the_world: false, may_repeat: false, documents, letters });
        number
    }

    pub fn text(&self, line: usize) -> String {
        self.known().lines[line].text.clone()
    }

    /// Its last byte was written.
    pub fn written(&self, line: usize) {
        self.known().lines[line].written += 1;
    }

    pub fn is_refused(&self, line: usize) -> bool {
        self.known().lines[line].sort == Sort::Refused
    }

    /// Which line a document is; a text that was never written whole is noted as wrong.
    pub fn of_message(&self, message: &str) -> usize {
        let mut known = self.known();
        let number = message.get(1..7).and_then(|digits| digits.parse::<usize>().ok());
        let line = number.and_then(|number| known.lines.get(number));
        if line.is_none_or(|line| line.text != message || line.written == 0) {
            known.wrong.push(format!("a document holds {message:?}, which is no line"));
        }
        number.unwrap_or(0)
    }

    pub fn created(&self, line: usize) {
        self.known().lines[line].documents += 1;
    }

    pub fn deleted(&self, line: usize) {
        self.known().lines[line].documents -= 1;
    }

    pub fn kept_as_letter(&self, line: usize) {
        self.known().lines[line].letters += 1;
    }

    /// A process died: a line that it had kept as a dead letter may be sent once more, and be taken this time. The letter
    /// stays, and its replay finds the document.
    pub fn died(&self) {
        self.known().died = true;
    }

    /// The bytes of this line are gone.
    pub fn destroyed(&self, line: usize) {
        let line = &mut self.known().lines[line];
        if line.documents + line.letters == 0 {
            line.lost_by_the_world = true;
        }
    }

    /// It may be there again: the store is lost, and with it which file this is.
    pub fn may_repeat(&self, line: usize) {
        self.known().lines[line].may_repeat = true;
    }

    /// How many lines are still to come.
    pub fn missing(&self) -> Vec<String> {
        let known = self.known();
        let missing = known.lines.iter().filter(|line| line.written > 0 && !line.lost_by_the_world);
        missing.filter(|line| line.found() == 0 && line.sort != Sort::Skipped).map(|line| line.name()).collect()
    }

    /// What is wrong now, and would be wrong whatever comes.
    pub fn wrong(&self) -> Vec<String> {
        let known = self.known();
        let mut wrong = known.wrong.clone();
        // Files that begin alike may be taken for one another, and read again: a known limit. None may be lost.
        let has_header = known.lines.first().is_some_and(|line| line.sort == Sort::Header);
        for line in &known.lines {
            let most = match line.sort {
                Sort::Skipped => 0,
                _ if line.may_repeat || has_header => u64::MAX,
                Sort::Header | Sort::Plain | Sort::Refused => 1,
            };
            let twice = if known.died { line.documents.max(line.letters) } else { line.found() };
            if twice > most {
                let (documents, letters) = (line.documents, line.letters);
                wrong
                    .push(format!("line {} is there too often: {documents} documents, {letters} letters", line.name()));
            }
        }
        wrong
    }

    pub fn count(&self) -> u64 {
        self.known().lines.iter().map(|line| line.written).sum()
    }
}

impl Line {
    fn found(&self) -> u64 {
        self.documents + self.letters
    }

    fn name(&self) -> String {
        self.text.chars().take(7).collect()
    }
}
