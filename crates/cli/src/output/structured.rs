//! YAML for programs and for people who like it: block style, every doubtful text quoted.

use serde_json::Value;

/// `value` as a YAML document.
pub(super) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn write(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&format!("{pad}{}:", scalar(&Value::from(key.as_str()))));
                nested(value, indent + 2, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                out.push_str(&format!("{pad}-"));
                match value {
                    // The first key stands behind the dash.
                    Value::Object(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        write(value, indent + 2, &mut inner);
                        out.push_str(&format!(" {}", &inner[indent + 2..]));
                    }
                    _ => nested(value, indent + 2, out),
                }
            }
        }
        other => out.push_str(&format!("{pad}{}\n", scalar(other))),
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            write(value, indent, out);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            write(value, indent, out);
        }
        other => out.push_str(&format!(" {}\n", scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|w| w.eq_ignore_ascii_case(text));
    if first && bytes.all(plain) && !word { text.clone() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_and_quotes() {
        let value = json!({"a": {"b": [1, {"c": "x y", "d": null}]}, "no": "no", "e": [], "v": "1.10"});
        assert_eq!(
            yaml(&value),
            "a:\n  b:\n    - 1\n    - c: \"x y\"\n      d: null\ne: []\n\"no\": \"no\"\nv: \"1.10\"\n"
        );
    }
}
