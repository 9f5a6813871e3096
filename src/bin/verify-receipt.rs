//! Checks the receipt of a decision on this machine, without the service:
//! `cargo run --bin verify-receipt -- receipt.json jwks.json`, where
//! `jwks.json` is what `/.well-known/receipt-keys.json` answered.
//!
//! Exit code 0: good. 1: not good. 2: there was nothing to check.

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    host::main()
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    use devskyy_orchestration::domain::decision::receipt::verify_receipt;
    use serde::Deserialize;
    use std::process::ExitCode;

    const GOOD: u8 = 0;
    const NOT_GOOD: u8 = 1;
    const NOTHING_CHECKED: u8 = 2;

    #[derive(Deserialize)]
    struct Report {
        valid: bool,
        checks: Vec<Check>,
    }

    #[derive(Deserialize)]
    struct Check {
        name: String,
        passed: bool,
        detail: String,
    }

    pub fn main() -> ExitCode {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        ExitCode::from(match run(&arguments) {
            Ok(report) => {
                println!("{}", told(&report));
                if report.valid { GOOD } else { NOT_GOOD }
            }
            Err(error) => {
                eprintln!("{error}");
                NOTHING_CHECKED
            }
        })
    }

    fn run(arguments: &[String]) -> Result<Report, String> {
        let [receipt, jwks] = arguments else {
            return Err("usage: verify-receipt <receipt.json> <jwks.json>".to_owned());
        };
        let read = |path: &String| {
            std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
        };
        let report = verify_receipt(&read(receipt)?, &read(jwks)?)?;
        serde_json::from_str(&report).map_err(|error| format!("the report: {error}"))
    }

    /// A line a check, and one for all of them.
    fn told(report: &Report) -> String {
        let line = |Check { name, passed, detail }: &Check| {
            format!("{} {name}: {detail}\n", if *passed { "ok    " } else { "FAILED" })
        };
        let checks: String = report.checks.iter().map(line).collect();
        checks + if report.valid { "The receipt is good." } else { "The receipt is NOT good." }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn it_tells_each_check() {
            let report = serde_json::from_str(
                r#"{"valid": false, "checks": [
                    {"name": "signature", "passed": true, "detail": "by key 1"},
                    {"name": "ranking", "passed": false, "detail": "0.5 is not 0.6"}]}"#,
            )
            .unwrap();
            assert_eq!(
                told(&report),
                "ok     signature: by key 1\nFAILED ranking: 0.5 is not 0.6\nThe receipt is NOT good."
            );
        }

        #[test]
        fn what_cannot_be_read_is_no_answer() {
            for arguments in [&[][..], &["one"], &["no file", "no file"]] {
                let arguments: Vec<String> =
                    arguments.iter().map(|&text| text.to_owned()).collect();
                assert!(run(&arguments).is_err());
            }
        }
    }
}
