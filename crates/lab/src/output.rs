//! Standard output, for all verbs.

use std::io::Write;

/// Prints. When the pipe is closed nobody reads any more (`tortie lab status | head -1`): no reason to die, all the less
/// for a verb that still has work to do or to clean up.
pub(crate) fn print(text: &str) {
    print_to(&mut std::io::stdout().lock(), text);
}

fn print_to(output: &mut impl Write, text: &str) {
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// `println!` by way of [`print()`].
macro_rules! say {
    ($($arguments:tt)*) => {
        $crate::output::print(&format!("{}\n", format_args!($($arguments)*)))
    };
}

pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_reason_to_die() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert!(writer.write_all(b"x").is_err(), "nobody reads");
        print_to(&mut writer, "x\n");
    }
}
