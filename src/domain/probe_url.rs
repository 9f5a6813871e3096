//! The addresses a tenant may have us call.
//!
//! A probe makes this service fetch a URL that somebody else wrote, so the
//! policy refuses everything that could reach inside a network: addresses
//! instead of names, internal names, names that resolve to an address written
//! in them. It judges the parsed URL, which is what is fetched, so no spelling
//! gets round it. A public name that resolves to a private address is beyond
//! what a name can show; fetches leave from Cloudflare's network, never from
//! the tenant's.

use std::fmt;

use url::{Host, Url};

/// Longest address accepted, in bytes, both as written and as normalised.
const MAX_LENGTH: usize = 2_048;

/// The customary alternative of HTTPS, allowed beside its default, 443, which
/// the parser leaves out.
const ALTERNATIVE_PORT: u16 = 8443;

/// What every accepted address looks like, as a regular expression of the
/// document; the rules about hosts and ports are beyond one.
pub const HTTPS_URL: &str = "^[Hh][Tt][Tt][Pp][Ss]:[^\\u0000-\\u0020\\u007f-\\u00a0\\\\#]+$";

/// Names that never are a public host: special-use names (RFC 6761, 6762,
/// 7686, 8375, 9476), ICANN's `internal`, and what private networks use.
const RESERVED_SUFFIXES: [&str; 15] = [
    "alt",
    "arpa",
    "corp",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "mail",
    "onion",
    "private",
    "test",
];

/// Public services whose names resolve to an address of the asker's choice or
/// to loopback.
const REBINDING_SUFFIXES: [&str; 9] = [
    "1u.ms",
    "localtest.me",
    "lvh.me",
    "nip.io",
    "rbndr.us",
    "sslip.io",
    "traefik.me",
    "vcap.me",
    "xip.io",
];

/// Whether this machine itself may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopbackPolicy {
    Refused,
    /// For development: `127.0.0.1`, `[::1]` and `localhost`, by http too and
    /// on any port.
    Allowed,
}

impl LoopbackPolicy {
    pub const fn of(loopback_allowed: bool) -> Self {
        if loopback_allowed { Self::Allowed } else { Self::Refused }
    }
}

/// An address that passed the policy, in normalised form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeUrl(Url);

impl ProbeUrl {
    pub fn parse(text: &str, policy: LoopbackPolicy) -> Result<Self, ProbeUrlError> {
        if text.len() > MAX_LENGTH {
            return Err(ProbeUrlError::TooLong);
        }
        // The URL standard drops tabs and reads `\` as `/`; other readers do not.
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(ProbeUrlError::Characters);
        }
        let url = Url::parse(text).map_err(ProbeUrlError::NotAUrl)?;
        check(&url, policy)?;
        Ok(Self(url))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name of the host alone.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl fmt::Display for ProbeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn check(url: &Url, policy: LoopbackPolicy) -> Result<(), ProbeUrlError> {
    if url.as_str().len() > MAX_LENGTH {
        return Err(ProbeUrlError::TooLong);
    }
    let loopback = policy == LoopbackPolicy::Allowed && is_loopback(url);
    if url.scheme() != "https" && !(loopback && url.scheme() == "http") {
        return Err(ProbeUrlError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ProbeUrlError::UserInfo);
    }
    if url.fragment().is_some() {
        return Err(ProbeUrlError::Fragment);
    }
    if loopback {
        return Ok(());
    }
    match url.host() {
        Some(Host::Domain(name)) => check_name(name)?,
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Err(ProbeUrlError::Address),
        None => return Err(ProbeUrlError::Name),
    }
    if url.port().is_some_and(|port| port != ALTERNATIVE_PORT) {
        return Err(ProbeUrlError::Port);
    }
    Ok(())
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
}

/// `name` is in lower case and in ASCII, as the parser leaves it.
fn check_name(name: &str) -> Result<(), ProbeUrlError> {
    if name.ends_with('.') {
        return Err(ProbeUrlError::TrailingDot);
    }
    if is_within(name, "localhost") {
        return Err(ProbeUrlError::Localhost);
    }
    // RFC 1035: labels of 1 to 63 octets, a name of at most 253 in all.
    if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(ProbeUrlError::Name);
    }
    if !name.contains('.') {
        return Err(ProbeUrlError::SingleLabel);
    }
    if RESERVED_SUFFIXES.iter().any(|suffix| is_within(name, suffix)) {
        return Err(ProbeUrlError::ReservedName);
    }
    if REBINDING_SUFFIXES.iter().any(|suffix| is_within(name, suffix)) {
        return Err(ProbeUrlError::Rebinding);
    }
    Ok(())
}

/// Whether `name` is `suffix` or a name below it.
fn is_within(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Why an address is refused; its text says what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeUrlError {
    TooLong,
    Characters,
    NotAUrl(url::ParseError),
    Scheme,
    UserInfo,
    Fragment,
    Address,
    Name,
    TrailingDot,
    Localhost,
    SingleLabel,
    ReservedName,
    Rebinding,
    Port,
}

impl fmt::Display for ProbeUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAUrl(error) => return write!(f, "is not a URL: {error}"),
            Self::TooLong => "is longer than 2048 bytes",
            Self::Characters => "contains a space, a control character or a backslash",
            Self::Scheme => "does not begin with https://",
            Self::UserInfo => "contains a user name or a password",
            Self::Fragment => "contains a fragment (#), which is never sent",
            Self::Address => "names its host by an IP address instead of a public name",
            Self::Name => "has a host that is not a valid name",
            Self::TrailingDot => "has a host that ends in a dot",
            Self::Localhost => "names this machine (localhost)",
            Self::SingleLabel => "has a host without a dot, which only a private network knows",
            Self::ReservedName => "has a host under a name reserved for private or special use",
            Self::Rebinding => "has a host under a service that resolves to any address asked for",
            Self::Port => "has a port other than 443 and 8443",
        })
    }
}

impl std::error::Error for ProbeUrlError {}

#[cfg(test)]
mod tests {
    use super::LoopbackPolicy::{Allowed, Refused};
    use super::*;
    use proptest::prelude::*;
    use url::ParseError;

    #[test]
    fn hostile_addresses() {
        use ProbeUrlError::*;
        for (text, expected) in [
            // Not an address of the web.
            ("", NotAUrl(ParseError::RelativeUrlWithoutBase)),
            ("example.com", NotAUrl(ParseError::RelativeUrlWithoutBase)),
            ("//example.com/", NotAUrl(ParseError::RelativeUrlWithoutBase)),
            ("/api/v2", NotAUrl(ParseError::RelativeUrlWithoutBase)),
            ("https://", NotAUrl(ParseError::EmptyHost)),
            ("https://?q", NotAUrl(ParseError::EmptyHost)),
            ("https://exa<mple.com/", NotAUrl(ParseError::IdnaError)),
            ("https://exa%00mple.com/", NotAUrl(ParseError::IdnaError)),
            ("https://example.com%2f@127.0.0.1/", UserInfo),
            ("https://example.com:port/", NotAUrl(ParseError::InvalidPort)),
            ("https://example.com:65536/", NotAUrl(ParseError::InvalidPort)),
            ("https://[::1/", NotAUrl(ParseError::InvalidIpv6Address)),
            ("https://[fe80::1%25eth0]/", NotAUrl(ParseError::InvalidIpv6Address)),
            ("https://256.256.256.256/", NotAUrl(ParseError::InvalidIpv4Address)),
            ("https://1.2.3.4.5/", NotAUrl(ParseError::InvalidIpv4Address)),
            ("https://example.com.0x7f/", NotAUrl(ParseError::InvalidIpv4Address)),
            // Other schemes.
            ("http://example.com/", Scheme),
            ("HTTP://EXAMPLE.COM/", Scheme),
            ("http://127.0.0.1/", Scheme),
            ("ftp://example.com/", Scheme),
            ("ws://example.com/", Scheme),
            ("wss://example.com/", Scheme),
            ("gopher://example.com:70/_GET", Scheme),
            ("file:///etc/passwd", Scheme),
            ("data:text/plain,hello", Scheme),
            ("javascript:alert(1)", Scheme),
            ("blob:https://example.com/1", Scheme),
            ("example.com:443", Scheme),
            // What readers of URLs disagree about.
            (" https://example.com/", Characters),
            ("https://example.com/\n", Characters),
            ("https://exa\tmple.com/", Characters),
            ("https://example.com/\r\nHost: internal", Characters),
            ("https://example.com\\@127.0.0.1/", Characters),
            ("https:\\\\example.com\\", Characters),
            ("https://example.com/\u{a0}", Characters),
            ("https://example.com/\0", Characters),
            // Credentials and fragments.
            ("https://user@example.com/", UserInfo),
            ("https://user:password@example.com/", UserInfo),
            ("https://:password@example.com/", UserInfo),
            ("https://example.com@evil.com/", UserInfo),
            ("https://example.com:443@127.0.0.1/", UserInfo),
            ("https://example.com/#", Fragment),
            ("https://example.com/#@127.0.0.1/", Fragment),
            // IPv4 in every spelling.
            ("https://127.0.0.1/", Address),
            ("https://127.0.0.1./", Address),
            ("https://127.1/", Address),
            ("https://127.0.1/", Address),
            ("https://2130706433/", Address),
            ("https://0x7f000001/", Address),
            ("https://0x7f.0.0.1/", Address),
            ("https://0177.0.0.1/", Address),
            ("https://017700000001/", Address),
            ("https://0/", Address),
            ("https://0.0.0.0/", Address),
            ("https://10.0.0.1/", Address),
            ("https://172.16.0.1/", Address),
            ("https://192.168.1.1:8443/", Address),
            ("https://100.64.0.1/", Address),
            ("https://169.254.169.254/latest/meta-data/", Address),
            ("https://0xa9fea9fe/", Address),
            ("https://255.255.255.255/", Address),
            ("https://8.8.8.8/", Address),
            ("https://127%2e0%2e0%2e1/", Address),
            ("https://%31%32%37.0.0.1/", Address),
            ("https://①②⑦.⓪.⓪.①/", Address),
            ("https://127。0。0。1/", Address),
            ("https:127.0.0.1", Address),
            ("https:///127.0.0.1/", Address),
            // IPv6.
            ("https://[::1]/", Address),
            ("https://[::]/", Address),
            ("https://[0:0:0:0:0:0:0:1]/", Address),
            ("https://[::ffff:127.0.0.1]/", Address),
            ("https://[::ffff:7f00:1]/", Address),
            ("https://[64:ff9b::7f00:1]/", Address),
            ("https://[fd00::1]/", Address),
            ("https://[fe80::1]/", Address),
            ("https://[2606:4700::1111]/", Address),
            // Names that only a private network knows.
            ("https://localhost/", Localhost),
            ("https://LOCALHOST/", Localhost),
            ("https://ⓛocalhost/", Localhost),
            ("https://localhost:8443/", Localhost),
            ("https://api.localhost/", Localhost),
            ("https://localhost./", TrailingDot),
            ("https://example.com./", TrailingDot),
            ("https://printer/", SingleLabel),
            ("https://instance-data/latest/", SingleLabel),
            ("https://com/", SingleLabel),
            ("https://printer.local/", ReservedName),
            ("https://Printer.LOCAL/", ReservedName),
            ("https://metadata.google.internal/", ReservedName),
            ("https://wiki.intranet/", ReservedName),
            ("https://nas.lan/", ReservedName),
            ("https://router.home/", ReservedName),
            ("https://dc.corp/", ReservedName),
            ("https://db.private/", ReservedName),
            ("https://localhost.localdomain/", ReservedName),
            ("https://router.home.arpa/", ReservedName),
            ("https://1.0.0.127.in-addr.arpa/", ReservedName),
            (
                "https://duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion/",
                ReservedName,
            ),
            ("https://partner.test/", ReservedName),
            ("https://partner.example/", ReservedName),
            ("https://partner.invalid/", ReservedName),
            // Names that resolve to what is written in them, or to loopback.
            ("https://127.0.0.1.nip.io/", Rebinding),
            ("https://nip.io/", Rebinding),
            ("https://127-0-0-1.sslip.io/", Rebinding),
            ("https://10.0.0.1.xip.io/", Rebinding),
            ("https://lvh.me/", Rebinding),
            ("https://api.lvh.me/", Rebinding),
            ("https://localtest.me/", Rebinding),
            ("https://a.b.LocalTest.me/", Rebinding),
            ("https://7f000001.c0a80001.rbndr.us/", Rebinding),
            // Broken names.
            ("https://.example.com/", Name),
            ("https://example..com/", Name),
            // Ports.
            ("https://example.com:0/", Port),
            ("https://example.com:22/", Port),
            ("https://example.com:80/", Port),
            ("https://example.com:444/", Port),
            ("https://example.com:6379/", Port),
        ] {
            assert_eq!(ProbeUrl::parse(text, Refused), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn good_addresses_are_normalised() {
        for (text, expected) in [
            ("https://api.openai.com/v1/models", "https://api.openai.com/v1/models"),
            ("https://api.perplexity.ai", "https://api.perplexity.ai/"),
            ("HTTPS://Example.COM:443/a/../b?q=1", "https://example.com/b?q=1"),
            ("https://example.com:8443/health", "https://example.com:8443/health"),
            ("https://münchen.de/ä", "https://xn--mnchen-3ya.de/%C3%A4"),
            ("https://my_host.example.com/", "https://my_host.example.com/"),
            ("https://@example.com/", "https://example.com/"),
            // Names that only look like the refused ones.
            ("https://notlocalhost.com/", "https://notlocalhost.com/"),
            ("https://localhost.example.com/", "https://localhost.example.com/"),
            ("https://internal.example.com/", "https://internal.example.com/"),
            ("https://mynip.io/", "https://mynip.io/"),
            ("https://10.0.0.1.example.com/", "https://10.0.0.1.example.com/"),
        ] {
            let parsed = ProbeUrl::parse(text, Refused).map(|url| url.to_string());
            assert_eq!(parsed, Ok(expected.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn long_addresses_and_names() {
        let at_limit = format!("https://example.com/{}", "a".repeat(MAX_LENGTH - 20));
        assert!(ProbeUrl::parse(&at_limit, Refused).is_ok());
        assert_eq!(ProbeUrl::parse(&format!("{at_limit}a"), Refused), Err(ProbeUrlError::TooLong));
        // Six times as long once its characters are percent-encoded.
        let grows = format!("https://example.com/{}", "é".repeat(500));
        assert_eq!(ProbeUrl::parse(&grows, Refused), Err(ProbeUrlError::TooLong));
        let long_label = format!("https://{}.com/", "a".repeat(64));
        assert_eq!(ProbeUrl::parse(&long_label, Refused), Err(ProbeUrlError::Name));
        let long_name = format!("https://{}com/", "a.".repeat(126));
        assert_eq!(ProbeUrl::parse(&long_name, Refused), Err(ProbeUrlError::Name));
    }

    #[test]
    fn development_reaches_this_machine_and_nothing_else_more() {
        for good in [
            "http://127.0.0.1:8787/",
            "https://127.0.0.1/",
            "http://[::1]:3000/probe?x=1",
            "http://localhost:1/",
            "https://localhost:65535/",
            "https://api.openai.com/v1/models",
        ] {
            let parsed = ProbeUrl::parse(good, Allowed).map(|url| url.to_string());
            assert_eq!(parsed, Ok(good.to_owned()));
        }
        for (text, expected) in [
            ("http://example.com/", ProbeUrlError::Scheme),
            ("ftp://127.0.0.1/", ProbeUrlError::Scheme),
            ("http://127.0.0.2/", ProbeUrlError::Scheme),
            ("https://127.0.0.2/", ProbeUrlError::Address),
            ("https://[::ffff:127.0.0.1]/", ProbeUrlError::Address),
            ("https://10.0.0.1/", ProbeUrlError::Address),
            ("https://api.localhost/", ProbeUrlError::Localhost),
            ("http://user@localhost/", ProbeUrlError::UserInfo),
            ("http://localhost/#x", ProbeUrlError::Fragment),
            ("https://example.com:8080/", ProbeUrlError::Port),
        ] {
            assert_eq!(ProbeUrl::parse(text, Allowed), Err(expected), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_and_what_is_accepted_stays_accepted(
            text in prop_oneof![
                any::<String>(),
                "https?://\\PC{0,40}",
                "https://[a-z0-9.\\-]{1,30}(:[0-9]{1,5})?(/[a-z%?é ]{0,20})?",
            ],
            policy in prop::sample::select(&[Refused, Allowed][..]),
        ) {
            if let Ok(accepted) = ProbeUrl::parse(&text, policy) {
                prop_assert_eq!(ProbeUrl::parse(accepted.as_str(), policy), Ok(accepted));
            }
        }
    }
}
