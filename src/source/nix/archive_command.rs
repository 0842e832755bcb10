//! Tells the archives of `buildLayeredImage` from what others make of an image, by the command that builds them.
//!
//! Since nixpkgs 20.09 it is `SCRIPT | pigz -nT > $out`: what the script of `streamLayeredImage` writes, compressed. Later
//! ones have other options, `zstd`, or `cat` for no compression. Whatever else is done, or unknown, may change the image.

/// What compresses archives. It is given no options but those that nixpkgs uses.
const COMPRESSORS: [&str; 3] = ["pigz", "gzip", "zstd"];

/// The last of their levels that no option has to unlock.
const BEST: u32 = 19;

/// Whether `command` puts what `script` writes into the output of a derivation, compressed or not, and does nothing else.
pub(super) fn only_compresses(command: &str, script: &str) -> bool {
    let command = command.trim();
    let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
    let [first, "|", compressor, options @ .., ">", "$out"] = words.as_slice() else { return false };
    let compresses = match *compressor {
        "cat" => options.is_empty(),
        compressor => COMPRESSORS.contains(&compressor) && options.iter().all(|option| is_plain(option)),
    };
    *first == script && compresses
}

/// Whether a word is an option that says no more than how much to compress, and on how many processors.
fn is_plain(option: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(letters) = option.strip_prefix('-') else { return false };
    if is_number(letters) {
        return letters.parse().is_ok_and(|level: u32| level <= BEST);
    }
    match letters.strip_prefix(['p', 'T']) {
        Some(processors) => processors == "$NIX_BUILD_CORES" || is_number(processors),
        None => ["n", "nT", "nTR", "-no-name"].contains(&letters),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "/nix/store/00000000000000000000000000000000-stream-app";

    #[test]
    fn the_commands_of_nixpkgs_only_compress() {
        for compressor in [
            "pigz -nT",
            "pigz -nTR",
            "pigz -p$NIX_BUILD_CORES -nTR",
            "zstd -T$NIX_BUILD_CORES",
            "cat",
            "pigz -n -p8",
            "gzip --no-name -9",
            "zstd -T0 -19",
        ] {
            assert!(only_compresses(&format!("{SCRIPT} | {compressor} > $out"), SCRIPT), "{compressor}");
            assert!(
                only_compresses(&format!("\n  {SCRIPT} |  {compressor} > $out\n"), SCRIPT),
                "{compressor}"
            );
        }
    }

    #[test]
    fn a_command_that_may_do_more_does_not() {
        for command in [
            "",
            "SCRIPT > $out",
            "SCRIPT --repo_tag app:2 | pigz > $out",
            "SCRIPT-other | pigz > $out",
            "PATH=. SCRIPT | pigz > $out",
            "SCRIPT | edit | pigz > $out",
            "SCRIPT | edit > $out",
            "SCRIPT | pigz file > $out",
            "SCRIPT | cat -n > $out",
            "SCRIPT | cat - file > $out",
            "SCRIPT | zstd --patch-from=file > $out",
            "SCRIPT | pigz -$(edit) > $out",
            "SCRIPT | gzip -d > $out",
            "SCRIPT | zstd -t > $out",
            "SCRIPT | gzip --help > $out",
            "SCRIPT | zstd -ofile > $out",
            "SCRIPT | pigz -pT > $out",
            "SCRIPT | pigz -p8$NIX_BUILD_CORES > $out",
            "SCRIPT | zstd -20 > $out",
            "SCRIPT | zstd - > $out",
            "SCRIPT | pigz -n; > $out",
            "SCRIPT | pigz > $out.tmp",
            "SCRIPT | pigz > $out && edit $out",
            "SCRIPT | pigz > $out\nedit $out",
            "SCRIPT | pigz -n\n-T > $out",
            "SCRIPT\n| pigz > $out",
            "SCRIPT || pigz > $out",
            "SCRIPT | pigz >> $out",
            "SCRIPT & pigz > $out",
        ] {
            assert!(!only_compresses(&command.replace("SCRIPT", SCRIPT), SCRIPT), "{command}");
        }
    }
}
