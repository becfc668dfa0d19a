//! What the user agents of the generator's traffic are: written down by hand, because another way to find it out by rules
//! would be the same rules.

use super::record::Record;

/// How an agent begins; then its name, version, system, the system's version and the device, empty where it has none.
type Agent = (&'static str, [&'static str; 5]);

/// The first that fits counts.
const AGENTS: &[Agent] = &[
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/142.0.7444.77 ",
        ["Chrome Mobile iOS", "142.0.7444.77", "iOS", "18.6", "iPhone"],
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1",
        ["Mobile Safari", "26.0", "iOS", "18.7", "iPhone"],
    ),
    (
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 ",
        ["Samsung Internet", "28.0", "Android", "10", "K"],
    ),
    (
        "Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 ",
        ["Mobile Safari", "17.6", "iOS", "17.6", "iPad"],
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
        ["Edge", "142.0.0.0", "Windows", "10", "Other"],
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 OPR/125.0.0.0",
        ["Opera", "125.0.0", "Windows", "10", "Other"],
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 ",
        ["Chrome", "142.0.0.0", "Mac OS X", "10.15.7", "Mac"],
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 ",
        ["Safari", "26.0", "Mac OS X", "10.15.7", "Mac"],
    ),
    (
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile ",
        ["Chrome Mobile", "142.0.0.0", "Android", "10", "K"],
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 ",
        ["Chrome", "142.0.0.0", "Windows", "10", "Other"],
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 ",
        ["Chrome", "141.0.0.0", "Linux", "", "Other"],
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
        ["Firefox", "145.0", "Windows", "10", "Other"],
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ["Firefox", "140.0", "Linux", "", "Other"],
    ),
    (
        "Mozilla/5.0 (Android 15; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0",
        ["Firefox Mobile", "145.0", "Android", "15", "Generic Smartphone"],
    ),
    ("ShopApp/4.12.1 (Android 15; okhttp/4.12.0)", ["okhttp", "4.12.0", "Android", "15", "okhttp/4.12.0"]),
    ("facebookexternalhit/1.1 ", ["FacebookBot", "1.1", "", "", "Spider"]),
    (
        "Mozilla/5.0 (compatible; PriceScout/1.3; +https://pricescout.example/bot)",
        ["example/bot", "", "", "", "Spider"],
    ),
    ("Mozilla/5.0 (compatible; Googlebot/2.1; ", ["Googlebot", "2.1", "", "", "Spider"]),
    ("Mozilla/5.0 (compatible; bingbot/2.0; ", ["bingbot", "2.0", "", "", "Spider"]),
    ("Mozilla/5.0 (compatible; AhrefsBot/7.0; ", ["AhrefsBot", "7.0", "", "", "Spider"]),
    ("Mozilla/5.0 (compatible; YandexBot/3.0; ", ["YandexBot", "3.0", "", "", "Spider"]),
    ("python-requests/2.32.4", ["Python Requests", "2.32", "", "", "Other"]),
    ("Go-http-client/1.1", ["Go-http-client", "1.1", "", "", "Other"]),
    ("kube-probe/1.33", ["Other", "", "", "", "Other"]),
    ("Blackbox Exporter/0.27.0", ["Other", "", "", "", "Other"]),
    ("curl/8.14.1", ["curl", "8.14.1", "", "", "Other"]),
];

/// Adds what is known of an agent. Dirt behind it changes nothing.
pub(super) fn describe(agent: &str, record: &mut Record) {
    let Some((_, known)) = AGENTS.iter().find(|(start, _)| agent.starts_with(start)) else { return };
    let fields = ["name", "version", "os.name", "os.version", "device.name"];
    for (field, value) in fields.iter().zip(known).filter(|(_, value)| !value.is_empty()) {
        record.text(&format!("user_agent.{field}"), value);
    }
}
