//! Prints what wires the program into a runner.

use std::env;
use std::io::Write;
use std::path::Path;

use crate::failure::Failure;

/// Writes the `[runners.custom]` block of `config.toml` that calls this program.
pub(super) fn print(config: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    let program = env::current_exe().map_err(Failure::cannot("find this program"))?;
    // The runner calls the program from a folder of its own.
    let config =
        config.map(std::path::absolute).transpose().map_err(Failure::cannot("find the configuration"))?;
    out.write_all(block(&program, config.as_deref()).as_bytes()).map_err(Failure::cannot("print"))
}

fn block(program: &Path, config: Option<&Path>) -> String {
    let program = quoted(&program.to_string_lossy());
    let config =
        config.map(|file| format!("\"--config\", {}, ", quoted(&file.to_string_lossy()))).unwrap_or_default();
    let stage =
        |name: &str| format!("  {name}_exec = {program}\n  {name}_args = [{config}\"stage\", \"{name}\"]\n");
    // The runner waits five minutes for a job it has asked to end, whatever stands here.
    format!(
        "[runners.custom]\n{}{}{}{}  graceful_kill_timeout = 60\n  force_kill_timeout = 10\n",
        stage("config"),
        stage("prepare"),
        stage("run"),
        stage("cleanup")
    )
}

/// A basic string of TOML 1.0.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_toml_that_calls_every_stage() {
        let text = block(Path::new("/opt/a \"b\"/nixlayer"), Some(Path::new("/etc/other.yaml")));

        let table: toml::Table = text.parse().unwrap();
        let custom = table["runners"]["custom"].as_table().unwrap();
        for stage in ["config", "prepare", "run", "cleanup"] {
            assert_eq!(custom[&format!("{stage}_exec")].as_str(), Some("/opt/a \"b\"/nixlayer"));
            let arguments = custom[&format!("{stage}_args")].as_array().unwrap();
            let arguments: Vec<&str> = arguments.iter().map(|argument| argument.as_str().unwrap()).collect();
            assert_eq!(arguments, ["--config", "/etc/other.yaml", "stage", stage]);
        }
    }
}
