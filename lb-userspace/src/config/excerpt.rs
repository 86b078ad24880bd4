//! The line of a fault and the mark under it, fit for a terminal.
//!
//! Marks stay under their value with tabs, wide characters and long lines, and nothing that a file
//! contains reaches the terminal as a control sequence.

use std::ops::Range;

use super::scalar::harmless;

/// Characters of a line that are shown; a longer one is cut around the mark.
const WIDTH: usize = 120;
/// Characters that are shown before the mark of a line that is cut.
const BEFORE: usize = 60;
/// Octets before and after the start of a mark that are looked at: more than [`WIDTH`] characters.
const WINDOW: usize = 1024;

/// A line and the mark under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// The line, without what could upset a terminal.
    pub(super) line: String,
    /// Blanks and carets.
    pub(super) mark: String,
}

impl Excerpt {
    /// The line of `source` around `mark`, which is in octets and may end on a later line.
    pub(super) fn new(source: &str, mark: Range<usize>) -> Self {
        let start = floor(source, mark.start);
        // A line of megabytes is not walked for each of its faults.
        let from = floor(source, start.saturating_sub(WINDOW));
        let to = floor(source, start.saturating_add(WINDOW));
        let line_break = ['\n', '\r'];
        let line_start = source[from..start].rfind(line_break).map_or(from, |at| from + at + 1);
        let line_end = source[start..to].find(line_break).map_or(to, |at| start + at);
        // An empty mark is one character wide, or stands after the line.
        let least = source[start..line_end].chars().next().map_or(start, |first| start + first.len_utf8());
        let end = floor(source, mark.end).clamp(least, line_end);

        let shown_start = cut_before(&source[..line_end], line_start, start);
        let before = &source[shown_start..start];
        let marked = &source[start..end];
        let after = &source[end..line_end];
        let mut excerpt = Self { line: String::new(), mark: String::new() };
        if shown_start > line_start || (line_start == from && from > 0) {
            excerpt.push('…', ' ');
        }
        before.chars().for_each(|character| excerpt.push(character, ' '));
        let room = WIDTH.saturating_sub(before.chars().count());
        let mut left = room;
        for (text, sign) in [(marked, '^'), (after, ' ')] {
            for character in text.chars() {
                if left == 0 {
                    break;
                }
                left -= 1;
                excerpt.push(character, sign);
            }
        }
        if left == 0 && marked.len() + after.len() > 0 {
            excerpt.push('…', ' ');
        }
        if marked.is_empty() {
            excerpt.mark.push('^');
        }
        excerpt.mark.truncate(excerpt.mark.trim_end().len());
        excerpt.line.truncate(excerpt.line.trim_end().len());
        excerpt
    }

    /// One character of the line, and what stands under it.
    fn push(&mut self, character: char, sign: char) {
        if character == '\t' && sign == ' ' {
            self.line.push('\t');
            self.mark.push('\t');
            return;
        }
        let shown = if character == '\t' { ' ' } else { harmless(character) };
        self.line.push(shown);
        self.mark.extend(std::iter::repeat_n(sign, columns(shown)));
    }
}

/// The start of the character that `at` is in.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// Where a line is cut so that not too much stands before the mark; a line that fits is shown whole.
/// `source` ends where the line does.
fn cut_before(source: &str, line_start: usize, mark: usize) -> usize {
    if source[line_start..].chars().nth(WIDTH).is_none() {
        return line_start;
    }
    let mut before = source[line_start..mark].char_indices().rev();
    before.nth(BEFORE).map_or(line_start, |(at, character)| line_start + at + character.len_utf8())
}

/// Columns that a character takes in a terminal: the common ranges of UAX #11 (wide) and of combining marks.
fn columns(character: char) -> usize {
    match character {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(source: &str, part: &str, line: &str, mark: &str) {
        let start = source.find(part).expect("part of the source");
        let excerpt = Excerpt::new(source, start..start + part.len());
        assert_eq!((excerpt.line.as_str(), excerpt.mark.as_str()), (line, mark));
    }

    #[test]
    fn the_mark_stands_under_the_part() {
        shows("a: 1\nb: 22\nc: 3\n", "22", "b: 22", "   ^^");
        shows("a: 1\r\nb: 22\r\n", "22", "b: 22", "   ^^");
        shows("b: 22", "22", "b: 22", "   ^^");
    }

    #[test]
    fn tabs_and_wide_characters_keep_the_mark_in_its_place() {
        shows("a:\tx\n", "x", "a:\tx", "  \t^");
        shows("é: x\n", "x", "é: x", "   ^");
        shows("漢字: x\n", "x", "漢字: x", "      ^");
        shows("a: 漢\n", "漢", "a: 漢", "   ^^");
    }

    #[test]
    fn an_empty_mark_is_one_caret() {
        assert_eq!(Excerpt::new("", 0..0).mark, "^");
        assert_eq!(Excerpt::new("a:\n", 2..2).mark, "  ^");
        assert_eq!(Excerpt::new("a: b\n", 0..0).mark, "^");
        assert_eq!(Excerpt::new("a: b\n", 3..3).mark, "   ^");
    }

    #[test]
    fn no_octet_of_a_character_is_cut_off() {
        for source in ["é漢😀\n", "😀", "\té"] {
            for start in 0..source.len() + 2 {
                for end in 0..source.len() + 2 {
                    Excerpt::new(source, start..end);
                }
            }
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let source = format!("{}HERE{}", "x".repeat(5000), "y".repeat(5000));
        let excerpt = Excerpt::new(&source, 5000..5004);
        assert_eq!(excerpt.mark.trim(), "^^^^");
        let column = excerpt.mark.find('^').expect("a mark");
        assert_eq!(excerpt.line.chars().skip(column).take(4).collect::<String>(), "HERE");
        assert!(excerpt.line.chars().count() < 130);
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(Excerpt::new("a: \u{1b}[31m\u{202e}\n", 0..1).line, "a: \u{fffd}[31m\u{fffd}");
    }
}
