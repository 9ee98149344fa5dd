//! Rows below a head, each column as wide as its widest cell.

/// The text of a table.
pub fn table<const N: usize>(head: [Column; N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|at| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([head[at].name().len()]).max().unwrap_or_default()
    });
    let mut text = String::new();
    let mut add = |cells: [&str; N]| {
        let mut line = String::new();
        for (at, cell) in cells.into_iter().enumerate() {
            let width = widths[at];
            match head[at] {
                Column::Text(_) => line.push_str(&format!("{cell:<width$}  ")),
                Column::Number(_) => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    add(std::array::from_fn(|at| head[at].name()));
    for row in rows {
        add(std::array::from_fn(|at| &*row[at]));
    }
    text
}

/// A column, by its head.
#[derive(Clone, Copy)]
pub enum Column {
    /// Begins at the left.
    Text(&'static str),
    /// Ends at the right.
    Number(&'static str),
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Number(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_apart_below_their_heads_however_long_they_are() {
        let rows = [["a", "7"], ["an-agent.of-a-long.name:7070", "10000000"], ["é", ""]];
        let rows = rows.map(|row| row.map(str::to_owned));
        let text = table([Column::Text("ADDRESS"), Column::Number("RUNS")], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], "ADDRESS                           RUNS");
        assert_eq!(lines[1], "a                                    7");
        assert_eq!(lines[2], "an-agent.of-a-long.name:7070  10000000");
        assert_eq!(lines[3], "é");
        assert_eq!(table([Column::Text("ID")], &[]), "ID\n");
    }
}
