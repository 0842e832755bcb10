use std::error::Error as _;

use proptest::prelude::*;

use super::*;

/// Printed by Nix 2.8.0: `nix copy --to 'file:///…?secret-key=…&compression=xz'` of a path made by
/// `builtins.toFile`, with a key made by `nix-store --generate-binary-cache-key`.
const SIGNED: &str = "StorePath: /nix/store/bbzbh4chizpjs2c7186jb0x19sl3i1nq-greeting
URL: nar/13mifwhqwmrsqb2rgb88mxj908pln9ya82v8wjrfc3149ly8s5wd.nar.xz
Compression: xz
FileHash: sha256:13mifwhqwmrsqb2rgb88mxj908pln9ya82v8wjrfc3149ly8s5wd
FileSize: 240
NarHash: sha256:0dhf8fcbg4xz12caxj4i779v3vbwf8g66ba1gas7rvs5xhgi2bcs
NarSize: 264
References: 430rksy9dxpyl50zs25x2fd6w89wfddx-a h3hhxrwr222y55kkqas3c5g8305k78s9-b i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt
Sig: test.example-1:oKr+kPyJFdNpCfT5pjI7Lqa+1gV4jw5Q+KrHcfU7UOHhUY7AzPIANxegvnMgq4GKaQBkWU2PEwtOx6EykhK7CQ==
CA: text:sha256:0338xpr2rd6dh4jvdpqylp54pdckdwddx4vqgg90wn661hi55zsc
";

/// From the same cache: a path without references, whose line Nix ends with a space.
const LONELY: &str = "StorePath: /nix/store/430rksy9dxpyl50zs25x2fd6w89wfddx-a
URL: nar/0kwnzfnhkydqkdls2rc7ag3w795w1ffd9m2vl1ys33y5hsg961lz.nar.xz
Compression: xz
FileHash: sha256:0kwnzfnhkydqkdls2rc7ag3w795w1ffd9m2vl1ys33y5hsg961lz
FileSize: 124
NarHash: sha256:11hap619k9yv29jfxdq44d7fxwks93qsw8w8iwbgdjwxni9zsxlj
NarSize: 120
References: \nSig: test.example-1:6YwsbwcQynG2mvaHRJzVldcw8gstHOt7F5mHy9g1eeYGQ5xOWYg+kfSrKwe7B0TGKxgwPiTAqiJ88Sr22oN0BQ==
CA: text:sha256:1ir5rz261phggayppq7565k0jxg47zq3rkkvbq332gc04b2qyhl7
";

/// The public half of the key of both.
fn key() -> PublicKey {
    "test.example-1:R8kQ3b9ECOfDnZ3yGj4sz1z/loYw8yEL13sT2LsdJuY=".parse().unwrap()
}

/// Another key, by a name of its own or of the right one.
fn stranger(name: &str) -> PublicKey {
    format!("{name}:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=").parse().unwrap()
}

fn parse(text: &str) -> NarInfo {
    NarInfo::parse(text.as_bytes()).unwrap()
}

/// `SIGNED` with `from` replaced, which must be there.
fn altered(from: &str, to: &str) -> String {
    assert!(SIGNED.contains(from), "{from}");
    SIGNED.replacen(from, to, 1)
}

#[test]
fn a_narinfo_says_what_the_path_is_and_where_its_nar_lies() {
    let narinfo = parse(SIGNED);

    assert_eq!(narinfo.info.path.to_string(), "/nix/store/bbzbh4chizpjs2c7186jb0x19sl3i1nq-greeting");
    let hash = "sha256:0dhf8fcbg4xz12caxj4i779v3vbwf8g66ba1gas7rvs5xhgi2bcs";
    assert_eq!((narinfo.info.nar_hash.to_string().as_str(), narinfo.info.nar_size), (hash, 264));
    let names: Vec<&str> = narinfo.info.references.iter().map(StorePath::name).collect();
    assert_eq!(names, ["a", "b", "hello.txt"]);
    assert_eq!(narinfo.url, "nar/13mifwhqwmrsqb2rgb88mxj908pln9ya82v8wjrfc3149ly8s5wd.nar.xz");
    assert_eq!((narinfo.compression, narinfo.file_size), (Compression::Xz, Some(240)));
    let hash = "sha256:13mifwhqwmrsqb2rgb88mxj908pln9ya82v8wjrfc3149ly8s5wd";
    assert_eq!(narinfo.file_hash.unwrap().to_string(), hash);
    assert_eq!(narinfo.signatures[0].key_name(), "test.example-1");
}

#[test]
fn what_nix_signed_is_signed_by_its_key_among_others() {
    for narinfo in [parse(SIGNED), parse(LONELY)] {
        assert!(narinfo.is_signed_by(&[stranger("other"), key()]));
        assert!(!narinfo.is_signed_by(&[stranger("other"), stranger("test.example-1")]));
        assert!(!narinfo.is_signed_by(&[]));
    }
}

#[test]
fn one_valid_signature_among_others_is_enough() {
    let of_another_path = LONELY.lines().find(|line| line.starts_with("Sig: ")).unwrap();
    let text = altered("Sig: ", &format!("Sig: future-1:AAAA\n{of_another_path}\nSig: "));

    let narinfo = parse(&text);

    assert_eq!(narinfo.signatures.len(), 2, "the one of three bytes is passed over");
    assert!(narinfo.is_signed_by(&[key()]));
}

#[test]
fn the_fingerprint_has_the_full_paths_of_the_references_in_order() {
    let (a, b) = ("430rksy9dxpyl50zs25x2fd6w89wfddx-a", "h3hhxrwr222y55kkqas3c5g8305k78s9-b");
    let narinfo = parse(&altered(&format!("{a} {b}"), &format!(" {b}  {a}")));

    assert_eq!(
        narinfo.fingerprint(),
        "1;/nix/store/bbzbh4chizpjs2c7186jb0x19sl3i1nq-greeting;\
         sha256:0dhf8fcbg4xz12caxj4i779v3vbwf8g66ba1gas7rvs5xhgi2bcs;264;\
         /nix/store/430rksy9dxpyl50zs25x2fd6w89wfddx-a,/nix/store/h3hhxrwr222y55kkqas3c5g8305k78s9-b,\
         /nix/store/i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt"
    );
    assert!(narinfo.is_signed_by(&[key()]));
}

#[test]
fn whoever_alters_what_is_signed_breaks_the_signature() {
    for (from, to) in [
        ("StorePath: /nix/store/b", "StorePath: /nix/store/c"),
        ("-greeting", "-greetinh"),
        ("NarHash: sha256:0d", "NarHash: sha256:0f"),
        ("NarSize: 264", "NarSize: 265"),
        ("References: 4", "References: 5"),
        ("-a h3hhxrwr", "-c h3hhxrwr"),
        (" i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt", ""),
        ("hello.txt", "hello.txt i9pmrzmpshapij2kin22pff6fc2adavx-more"),
        ("Sig: test.example-1:o", "Sig: test.example-1:p"),
        ("Sig: test.example-1:", "Sig: test.example-2:"),
        ("Sig: ", "Signature: "),
    ] {
        let narinfo = parse(&altered(from, to));

        assert!(!narinfo.is_signed_by(&[key()]), "{from} as {to}");
    }
}

#[test]
fn what_a_mirror_may_choose_is_not_signed() {
    for (from, to) in [
        ("URL: nar/", "URL: https://mirror.example/nar?of="),
        ("Compression: xz", "Compression: zstd"),
        ("FileHash: sha256:1", "FileHash: sha256:0"),
        ("FileSize: 240", "FileSize: 1"),
        ("CA: text", "CA: other"),
        ("CA: ", "Deriver: unknown-deriver\nSystem: x86_64-linux\nUnknown: key\nUnknown: key\nCA: "),
    ] {
        assert!(parse(&altered(from, to)).is_signed_by(&[key()]), "{from} as {to}");
    }
}

#[test]
fn what_is_left_out_has_a_meaning() {
    let least = "StorePath: /nix/store/430rksy9dxpyl50zs25x2fd6w89wfddx-a\nURL: a\n\
                 NarHash: sha256:11hap619k9yv29jfxdq44d7fxwks93qsw8w8iwbgdjwxni9zsxlj\nNarSize: 120";

    let narinfo = parse(least);

    assert_eq!(narinfo.compression, Compression::Bzip2);
    assert_eq!((narinfo.file_hash, narinfo.file_size), (None, None));
    assert_eq!((narinfo.info.references.len(), narinfo.signatures.len()), (0, 0));
    for empty in ["References:", "References: ", "Compression:", "Compression: ", "FileSize: 0", "\n"] {
        assert_eq!(parse(&format!("{least}\n{empty}\n")), narinfo, "{empty:?}");
    }
}

#[test]
fn a_file_that_is_no_narinfo_says_why() {
    let long = "x".repeat(81);
    let cut = format!("line 5 of the narinfo is `{}…`, not `Key: value`", "x".repeat(80));
    for (from, to, error) in [
        (SIGNED, "", "the narinfo has no `StorePath`"),
        ("StorePath: ", "Storepath: ", "the narinfo has no `StorePath`"),
        ("URL: ", "url: ", "the narinfo has no `URL`"),
        ("NarHash: ", "X: ", "the narinfo has no `NarHash`"),
        ("NarSize: ", "X: ", "the narinfo has no `NarSize`"),
        ("CA: text", "StorePath: text", "the narinfo has `StorePath` twice"),
        ("CA: text", "References: text", "the narinfo has `References` twice"),
        ("CA: text", "FileSize: 240", "the narinfo has `FileSize` twice"),
        ("FileSize: 240", "<html>", "line 5 of the narinfo is `<html>`, not `Key: value`"),
        ("FileSize: 240", "FileSize:240", "line 5 of the narinfo is `FileSize:240`, not `Key: value`"),
        ("FileSize: 240", &long, &cut),
        ("Compression: xz", "Compression: lz4", "the NAR cannot be decompressed"),
        ("Sig: test.example-1:", "Sig: ", "`Sig` of the narinfo is malformed"),
    ] {
        let found = NarInfo::parse(altered(from, to).as_bytes()).unwrap_err();

        assert_eq!(found.to_string(), error);
    }
}

#[test]
fn a_value_that_its_key_does_not_take_is_named() {
    let hash = "0dhf8fcbg4xz12caxj4i779v3vbwf8g66ba1gas7rvs5xhgi2bcs";
    let (sha1, short) = (format!("sha1:{hash}"), format!("sha256:{}", &hash[1..]));
    let path = "430rksy9dxpyl50zs25x2fd6w89wfddx-a";
    let below = format!("/nix/store/{path}/bin");
    for (key, value, expected) in [
        ("StorePath", path, "a path in `/nix/store`"),
        ("StorePath", &below, "a path in `/nix/store`"),
        ("URL", "", "an address without spaces"),
        ("URL", "nar/a b", "an address without spaces"),
        ("URL", "nar/a\tb", "an address without spaces"),
        ("NarHash", &sha1, "a SHA-256"),
        ("NarHash", &short, "a SHA-256"),
        ("FileHash", &sha1, "a SHA-256"),
        ("FileHash", "", "a SHA-256"),
        ("NarSize", "", "a number of bytes above 0"),
        ("NarSize", "0", "a number of bytes above 0"),
        ("NarSize", "+264", "a number of bytes above 0"),
        ("NarSize", "18446744073709551616", "a number of bytes above 0"),
        ("FileSize", "-1", "a number of bytes"),
        ("FileSize", "240\r", "a number of bytes"),
        ("References", &below, "base names of store paths"),
        ("References", "430rksy9dxpyl50zs25x2fd6w89wfddx", "base names of store paths"),
    ] {
        let line = SIGNED.lines().find(|line| line.starts_with(&format!("{key}: "))).unwrap();
        let text = altered(line, &format!("{key}: {value}"));

        let found = NarInfo::parse(text.as_bytes()).unwrap_err();

        let value = value.replace('\t', "\\t").replace('\r', "\\r");
        assert_eq!(found.to_string(), format!("`{key}` of the narinfo is `{value}`, not {expected}"));
    }
}

#[test]
fn an_error_of_a_part_is_the_cause() {
    for (from, to, cause) in [
        (
            "Compression: xz",
            "Compression: lz4",
            "compression `lz4` is none of `none`, `xz`, `zstd`, `bzip2`, `br` and `gzip`",
        ),
        (
            "Sig: test.example-1:",
            "Sig: test.example-1:!",
            "`test.example-1:…` is not a signature as `name:base64` of 64 bytes: \
             what follows the name is not base64",
        ),
    ] {
        let error = NarInfo::parse(altered(from, to).as_bytes()).unwrap_err();

        assert_eq!(error.source().unwrap().to_string(), cause);
    }
}

#[test]
fn only_text_of_bounded_length_is_read() {
    let references = (0..10_000).map(|number| format!(" {}-name-of-{number:010}", "0".repeat(32)));
    let long = altered("References: ", &format!("References: {} ", references.collect::<String>()));
    let too_long = " ".repeat(NarInfo::MAX_BYTES + 1);

    assert_eq!(parse(&long).info.references.len(), 10_003);
    let error = NarInfo::parse(too_long.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "the narinfo has 1048577 bytes, more than 1048576");
    let error = NarInfo::parse(b"URL: \xff").unwrap_err();
    assert_eq!(error.to_string(), "the narinfo is not UTF-8");
}

proptest! {
    /// With any byte of the file replaced, what carries the signature is what was signed.
    #[test]
    fn a_signed_narinfo_says_what_was_signed(at in 0..SIGNED.len(), byte: u8) {
        let mut bytes = SIGNED.as_bytes().to_vec();
        bytes[at] = byte;

        if let Ok(narinfo) = NarInfo::parse(&bytes) && narinfo.is_signed_by(&[key()]) {
            prop_assert_eq!(narinfo.info, parse(SIGNED).info);
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = NarInfo::parse(&bytes);
    }

    #[test]
    fn no_value_panics(key in prop::sample::select(&Fields::SINGLE[..]), value in "[0-9a-f:/ é-]{0,40}|.*") {
        let others = SIGNED.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
        let _ = NarInfo::parse(format!("{others}\n{key}: {value}\nSig: {value}").as_bytes());
    }
}
