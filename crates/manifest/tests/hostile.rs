//! Manifests by careless and by hostile hands: a report with places, never a panic.

use proptest::prelude::*;
use trainyard_manifest::parse;

const GOOD: &str = "model_definition:\n  name: x\n  framework: {name: numpy, version: 2.4}\n  execution:\n    \
    command: python x.py --rate 0.1\n    compute_configuration: {name: cpu, nodes: 1}\ntraining_data_reference:\n  \
    name: d\n  connection: {endpoint_url: h, aws_access_key_id: k, aws_secret_access_key: s}\n  source: {bucket: b, type: s3}\n\
    training_results_reference:\n  connection: {endpoint_url: h, access_key_id: k, secret_access_key: s}\n  target:\n    bucket: r\n  type: s3\n";

fn report(text: &str) -> String {
    parse("m.yml", text, &[]).map_or_else(|r| r.to_string(), |_| String::new())
}

#[test]
fn the_forms_that_were_in_use_are_taken() {
    assert_eq!(report(GOOD), "");
    let runtimes = ["[{name: python, version: '3.5'}]", "{name: python, version: 3.5}"];
    for form in runtimes {
        assert_eq!(
            report(&GOOD.replace("version: 2.4}", &format!("version: 2.4, runtimes: {form}}}"))),
            "",
            "{form}"
        );
    }
    assert_eq!(report(&GOOD.replace("  name: x\n", "  name: x\n  author: Somebody\n")), "");
    let outer = GOOD
        .replace("    compute_configuration: {name: cpu, nodes: 1}\n", "")
        .replace("  name: x\n", "  name: x\n  compute_configuration: {name: cpu}\n");
    assert_eq!(report(&outer), "");
    let json = r#"{"model_definition":{"name":"x","framework":{"name":"numpy","version":"2"},"execution":{"command":"c",
        "compute_configuration":{"name":"cpu"}}},"training_data_reference":{"connection":{"name":"n"},"source":{"bucket":"b"},"type":"s3"},
        "training_results_reference":{"connection":{"name":"n"},"target":{"bucket":"b"},"type":"s3"}}"#;
    assert_eq!(report(json), "");
}

#[test]
fn versions_stay_as_they_were_written() {
    let manifest = parse("m.yml", &GOOD.replace("2.4", "1.10"), &[]).unwrap();
    assert_eq!(manifest.model_definition.framework.version, "1.10");
}

#[test]
fn syntax_errors_point_at_what_a_person_has_to_mend() {
    let tab = report(&GOOD.replace("\n  name: x", "\n\tname: x"));
    assert!(tab.starts_with("m.yml:2:1: a tab is used to indent"), "{tab}");
    let quote = report(&GOOD.replace("name: x\n", "name: \"x\n"));
    assert!(quote.starts_with("m.yml:2:9: a quote is opened and never closed"), "{quote}");
    let twice = report(&GOOD.replace("  name: x\n", "  name: x\n  name: y\n"));
    assert!(
        twice.contains("m.yml:3:3: the key `name` is there twice (it stands in line 2 already"),
        "{twice}"
    );
    assert!(report("").contains("the manifest is empty"));
    assert!(report("- a\n- b\n").contains("has to be a mapping"));
    assert!(report(&format!("{GOOD}---\na: b\n")).contains("more than one document"));
}

#[test]
fn old_forms_are_answered_with_the_new_key() {
    let old = "model_definition:\n  name: x\n  framework: {name: tensorflow, version: 1.2-py3}\n  execution: {command: c, resourceType: small}\n\
        training_data:\n  - connection: {auth_url: u, userId: u, password: p}\n    source: {container: c, type: softlayer_objectstore}\n";
    let report = report(old);
    for words in [
        "a form of 2017",
        "compute_configuration: {name",
        "write `training_data_reference`",
        "`training_results_reference` is missing",
    ] {
        let shown = parse("m.yml", old, &[]).unwrap_err().render(false, 100);
        assert!(report.contains(words) || shown.contains(words), "{words}: {shown}");
    }
}

#[test]
fn overrides_win_and_bad_ones_are_said() {
    let set =
        ["model_definition.name=other".to_owned(), "model_definition.execution.max_run_time=2h".to_owned()];
    let manifest = parse("m.yml", GOOD, &set).unwrap();
    assert_eq!(manifest.model_definition.name, "other");
    assert_eq!(manifest.model_definition.execution.max_run_time, Some(7200));
    for bad in ["name", "model_definition..name=x", "model_definition.name.deeper=x"] {
        assert!(parse("m.yml", GOOD, &[bad.to_owned()]).is_err(), "{bad}");
    }
}

#[test]
fn an_alias_bomb_and_deep_nesting_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let last = n - 1;
        bomb.push_str(&format!("a{n}: &a{n} [*a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}]\n"));
    }
    assert!(report(&bomb).contains("too large once its aliases are unfolded"));
    assert_ne!(report(&"[".repeat(5000)), "");
    assert_ne!(report(&format!("{}{}", "[".repeat(60), "]".repeat(60))), "");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_a_report_with_places_inside_it(text in "\\PC{0,200}|[a-z:\\-\\[\\]{}&*!|>'\"%@`#, \\n\\t]{0,300}") {
        if let Err(report) = parse("m.yml", &text, &[]) {
            prop_assert!(!report.problems.is_empty());
            let lines = text.matches('\n').count() + 1;
            for problem in &report.problems {
                let (line, column) = report.place(problem);
                prop_assert!(line >= 1 && line <= lines && column >= 1);
            }
            prop_assert!(report.render(false, 80).contains("problem"));
        }
    }

    #[test]
    fn a_broken_good_manifest_never_panics(at in 0..GOOD.len(), cut in 0..20usize, with in "\\PC{0,5}|[\\t\"'{}:\\n ]{0,5}") {
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{with}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(report) = parse("m.yml", &text, &[]) {
            prop_assert!(!report.problems.is_empty());
            prop_assert!(!report.render(true, 60).is_empty());
        }
    }
}
