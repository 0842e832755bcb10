use std::path::Path;

use super::*;

fn host() -> Host {
    Host {
        state_dir: "/var/lib/nixlayer".into(),
        runner_certs: "/etc/gitlab-runner/certs".into(),
        threads: NonZeroUsize::new(2).unwrap(),
    }
}

fn parse(text: &str) -> Result<AdminConfig, Error> {
    AdminConfig::parse("config.yaml", text.as_bytes(), &host())
}

#[test]
fn what_the_admin_leaves_out_is_safe() {
    let config = parse("limits: { grace: 5 }").unwrap();

    assert_eq!(config.sandbox, Isolation::Bubblewrap);
    assert_eq!(config.registries, BTreeMap::new());
    assert_eq!(config.limits.grace, Duration::from_secs(5));
    assert_eq!(config.runner_certs, Path::new("/etc/gitlab-runner/certs"));
    assert_eq!(config.builds_dir, Path::new("/var/lib/nixlayer/builds"));
}

#[test]
fn every_key_is_read() {
    let config = parse(
        "sandbox: none\n\
         nix: { programs: /opt/nix/bin, store: daemon, search_path: { nixpkgs: /srv/nixpkgs }, options: { cores: 2 } }\n\
         caches: { 'https://c.example/': { public_keys: ['c-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='], \
         priority: 3, token_file: /etc/token, ca_file: /etc/c.pem, client_certificate: /c.pem, client_key: /c.key, \
         use: on_request }, 'file:///srv/c': }\n\
         require_signatures: always\n\
         records: { key_file: /etc/k, public_keys: 'c-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=' }\n\
         registries: { 'r.example:5000': { ca_file: /etc/ca.pem, client_certificate: /etc/me.pem, \
         client_key: /etc/me.key, plain_http: true, token_hosts: [gitlab.example], chunk: 4 } }\n\
         trusted_hosts: ['storage.example:9000']\nrunner_certs: /r\nbuilds_dir: /b\ncache_dir: /c\nstate_dir: /s\n\
         scripts: { shell: sh, path: /bin, environment: { LANG: C }, read_only: [/srv/tools] }\n\
         limits: { grace: 1, threads: 3, uploads: 2, chunk: 8, patience: 60 }\n",
    )
    .unwrap();

    let registry = RegistryConfig {
        ca_file: Some("/etc/ca.pem".into()),
        client_certificate: Some(ClientFiles {
            certificate: "/etc/me.pem".into(),
            key: "/etc/me.key".into(),
        }),
        plain_http: true,
        token_hosts: BTreeSet::from(["gitlab.example".to_owned()]),
        chunk: Some(4 << 20),
    };
    let cache = CacheConfig {
        public_keys: vec!["c-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=".parse().unwrap()],
        priority: Some(3),
        netrc_file: None,
        token_file: Some("/etc/token".into()),
        ca_file: Some("/etc/c.pem".into()),
        client_certificate: Some(ClientFiles { certificate: "/c.pem".into(), key: "/c.key".into() }),
        used: CacheUse::OnRequest,
    };
    let text = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    assert_eq!(
        config,
        AdminConfig {
            sandbox: Isolation::None,
            nix: NixConfig {
                programs: Some("/opt/nix/bin".into()),
                store: StoreAccess::Daemon,
                search_path: text("nixpkgs", "/srv/nixpkgs"),
                options: text("cores", "2"),
            },
            caches: BTreeMap::from([
                ("https://c.example".to_owned(), cache),
                ("file:///srv/c".to_owned(), CacheConfig::default()),
            ]),
            require_signatures: RequireSignatures::Always,
            records: RecordsConfig {
                key_file: Some("/etc/k".into()),
                public_keys: vec!["c-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=".parse().unwrap()],
            },
            registries: BTreeMap::from([("r.example:5000".to_owned(), registry)]),
            trusted_hosts: BTreeSet::from(["storage.example:9000".to_owned()]),
            runner_certs: "/r".into(),
            builds_dir: "/b".into(),
            cache_dir: "/c".into(),
            state_dir: "/s".into(),
            scripts: ScriptConfig {
                shell: "sh".to_owned(),
                path: "/bin".to_owned(),
                environment: text("LANG", "C"),
                read_only: vec!["/srv/tools".into()],
            },
            limits: Limits {
                grace: Duration::from_secs(1),
                threads: NonZeroUsize::new(3).unwrap(),
                uploads: NonZeroUsize::new(2).unwrap(),
                chunk: 8 << 20,
                patience: Duration::from_secs(60),
            },
        }
    );
}

#[test]
fn slips_have_their_place() {
    for (text, message) in [
        ("sandbx: none", "config.yaml:1:1: `sandbx`: there is no such key"),
        ("sandbox: off", "config.yaml:1:10: `sandbox`: `off` is not known here"),
        (
            "registries:\n  r.example: { insecure: true }",
            "config.yaml:2:16: `registries.\"r.example\".insecure`",
        ),
        (
            "caches: { 's3://bucket': }",
            "config.yaml:1:11: `caches.\"s3://bucket\"`: `s3://bucket` is not the URL of a binary cache",
        ),
        ("caches: { 'https://': }", "config.yaml:1:11: `caches.\"https://\"`: `https://` is not the URL"),
        (
            "caches: { 'https://c.example': , 'https://c.example/': }",
            "config.yaml:1:34: `caches.\"https://c.example/\"`: `https://c.example/` is there twice",
        ),
        (
            "caches:\n  https://c.example: { public_keys: [secret] }",
            "config.yaml:2:38: `caches.\"https://c.example\".public_keys[0]`: ",
        ),
        (
            "registries:\n  r.example: { client_certificate: /c }",
            "config.yaml:2:36: `registries.\"r.example\".client_certificate`: there is no `client_key`",
        ),
        (
            "caches:\n  https://c.example: { client_key: /c }",
            "config.yaml:2:36: `caches.\"https://c.example\".client_key`: there is no `client_certificate`",
        ),
        ("trusted_hosts: ['*.example']", "config.yaml:1:17: `trusted_hosts[0]`: `*.example` is not a host"),
        (
            "trusted_hosts: [https://s.example]",
            "config.yaml:1:17: `trusted_hosts[0]`: `https://s.example` is",
        ),
        ("records: { key_file: k }", "config.yaml:1:22: `records.key_file`: `k` is not an absolute path"),
        (
            "records: { public_keys: [k] }",
            "config.yaml:1:26: `records.public_keys[0]`: `k` is not a public key",
        ),
        ("builds_dir: builds", "config.yaml:1:13: `builds_dir`: `builds` is not an absolute path"),
        ("limits: { uploads: 0 }", "config.yaml:1:20: `limits.uploads`: `0` is out of range"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{text}: {error}");
    }
}
