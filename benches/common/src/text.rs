//! Numbers and CSV as they are written.

/// Three digits that count, thousands grouped.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size < 0.005 => "0".to_owned(),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => grouped(&format!("{value:.0}")),
    }
}

/// A whole number with its thousands grouped.
pub fn grouped(number: &str) -> String {
    let mut grouped = String::new();
    for (place, digit) in number.chars().enumerate() {
        if digit.is_ascii_digit() && place > 0 && (number.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// One line of CSV, with its end.
pub fn csv_line<const N: usize>(fields: [&str; N]) -> String {
    let mut line = fields.map(csv_field).join(",");
    line.push('\n');
    line
}

fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
