//! The OpenAPI document as a page to read: no script, nothing from elsewhere.

use std::fmt::Write;

use serde_json::Value;

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Trainyard API</title><style>\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h2{margin-top:2.5rem}details{border-top:1px solid #8884;padding:.4rem 0}summary{cursor:pointer}\
code,b.m{font-family:ui-monospace,monospace}b.m{display:inline-block;min-width:4.5rem}\
table{border-collapse:collapse;margin:.5rem 0}td{padding:.1rem .8rem .1rem 0;vertical-align:top}\
small{color:#888}</style></head><body>";

/// The page for `document`.
pub(crate) fn page(document: &Value) -> String {
    let mut page = String::from(HEAD);
    let _ = write!(
        page,
        "<h1>Trainyard API</h1><p>{}</p><p>The same for machines: <a href=\"/openapi.json\">openapi.json</a>. \
         Sign in with <code>GET /v3/identity/token</code>, and send <code>Authorization: Bearer TOKEN</code>.</p>",
        text(&document["info"]["description"])
    );
    for tag in list(&document["tags"]) {
        let _ = write!(page, "<h2>{}</h2><p>{}</p>", text(&tag["name"]), text(&tag["description"]));
        for (path, item) in entries(&document["paths"]) {
            for (method, operation) in entries(item) {
                if list(&operation["tags"]).contains(&tag["name"]) {
                    write_operation(&mut page, method, path, operation);
                }
            }
        }
    }
    page.push_str("<h2>Objects</h2>");
    for (name, schema) in entries(&document["components"]["schemas"]) {
        write_object(&mut page, name, schema);
    }
    page.push_str("</body></html>");
    page
}

fn write_operation(page: &mut String, method: &str, path: &str, operation: &Value) {
    let _ = write!(
        page,
        "<details><summary><b class=\"m\">{}</b> <code>{}</code> <small>{}</small></summary><p>{}</p><table>",
        escape(&method.to_uppercase()),
        escape(path),
        text(&operation["summary"]),
        text(&operation["description"])
    );
    for parameter in list(&operation["parameters"]) {
        let (name, about) = (text(&parameter["name"]), text(&parameter["description"]));
        let _ = write!(page, "<tr><td><code>{name}</code><td>{about}");
    }
    for (kind, content) in entries(&operation["requestBody"]["content"]) {
        let _ =
            write!(page, "<tr><td>body<td>{} <small>{}</small>", kind_of(&content["schema"]), escape(kind));
    }
    for (status, response) in entries(&operation["responses"]) {
        let body = entries(&response["content"]).next().map(|(_, content)| kind_of(&content["schema"]));
        let (about, body) = (text(&response["description"]), body.unwrap_or_default());
        let _ = write!(page, "<tr><td>{}<td>{about} {body}", escape(status));
    }
    page.push_str("</table></details>");
}

fn write_object(page: &mut String, name: &str, schema: &Value) {
    let name = escape(name);
    let about = text(&schema["description"]);
    let _ =
        write!(page, "<details id=\"{name}\"><summary><code>{name}</code></summary><p>{about}</p><table>");
    for value in list(&schema["enum"]) {
        let _ = write!(page, "<tr><td><code>{}</code>", text(value));
    }
    let parts = std::iter::once(schema).chain(list(&schema["allOf"]));
    for part in parts {
        let needed = list(&part["required"]);
        for (field, value) in entries(&part["properties"]) {
            let may = if needed.contains(&Value::from(field)) { "" } else { " <small>may be absent</small>" };
            let (kind, about) = (kind_of(value), text(&value["description"]));
            let _ = write!(page, "<tr><td><code>{}</code><td>{kind}{may}<td>{about}", escape(field));
        }
    }
    page.push_str("</table></details>");
}

/// What a value is, in a word, linked to where it is described.
fn kind_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return format!("<a href=\"#{0}\">{0}</a>", escape(name));
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(all) = schema[key].as_array() {
            return all.iter().map(kind_of).collect::<Vec<_>>().join(" or ");
        }
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        Value::String(kind) => escape(kind),
        _ => "anything".to_owned(),
    };
    if schema["items"].is_object() { format!("{kinds} of {}", kind_of(&schema["items"])) } else { kinds }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or(""))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
