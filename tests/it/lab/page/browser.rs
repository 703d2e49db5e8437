//! A headless Chromium of a test's own, by WebDriver on loopback.

use crate::lab::proxy::free_port;
use crate::lab::signal;
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The one file of axe-core, with its licence beside it.
const AXE: &str = include_str!("../../../vendor/axe-core/axe.min.js");

/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a screenshot looks.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    Light,
    Dark,
    Phone,
    Wall,
}

impl Look {
    pub const ALL: [Self; 4] = [Self::Light, Self::Dark, Self::Phone, Self::Wall];

    const fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
            Self::Phone => "phone",
            Self::Wall => "wall",
        }
    }

    const fn scheme(self) -> &'static str {
        match self {
            Self::Light | Self::Phone => "light",
            Self::Dark | Self::Wall => "dark",
        }
    }

    const fn size(self) -> (u32, u32, bool) {
        match self {
            Self::Light | Self::Dark => (1440, 900, false),
            Self::Phone => (390, 844, true),
            Self::Wall => (3840, 2160, false),
        }
    }
}

/// A running browser with one window. Both it and its driver end when it is dropped.
pub struct Browser {
    client: Client,
    driver: Child,
    profile: tempfile::TempDir,
    /// The session's address at the driver, for what WebDriver itself does not have.
    session: String,
    base: String,
}

impl Browser {
    /// On pages of this server.
    pub async fn open(base: &str) -> Self {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts: lab/install chromium-driver");
        let profile = tempfile::tempdir().expect("a directory");
        let url = format!("http://127.0.0.1:{port}");
        let end = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "chromedriver does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let data = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            &data,
        ];
        let capabilities = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let capabilities = capabilities.as_object().expect("an object").clone();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&url)
            .await
            .expect("Chromium starts: lab/install chromium");
        let id = client
            .session_id()
            .await
            .expect("asked")
            .expect("a session");
        Self {
            client,
            driver,
            profile,
            session: format!("{url}/session/{id}"),
            base: base.to_owned(),
        }
    }

    pub async fn goto(&self, path: &str) {
        let url = format!("{}{path}", self.base);
        self.client.goto(&url).await.expect("the page is there");
    }

    /// Follows a link on another site's page to here.
    pub async fn follow_from_elsewhere(&self, path: &str) {
        let link = format!(
            "data:text/html,<a id=link href='{}{path}'>look</a>",
            self.base
        );
        self.client
            .goto(&link)
            .await
            .expect("the other page is there");
        self.click("#link").await;
    }

    /// The path and query of where it is.
    pub async fn place(&self) -> String {
        let url = self.client.current_url().await.expect("an address");
        let query = url.query().map(|query| format!("?{query}"));
        format!("{}{}", url.path(), query.unwrap_or_default())
    }

    pub async fn until_at(&self, path: &str) {
        let end = Instant::now() + PATIENCE;
        while self.place().await != path {
            let now = self.place().await;
            assert!(
                Instant::now() < end,
                "it is at {now}, not at {path}:\n{}",
                self.text("body").await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What stands in an element.
    pub async fn text(&self, css: &str) -> String {
        let found = self.client.find(Locator::Css(css)).await;
        let found = found.unwrap_or_else(|fault| panic!("{css}: {fault}"));
        found.text().await.unwrap_or_default()
    }

    /// Waits until a text stands in an element, without loading anything anew.
    pub async fn until(&self, css: &str, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.client.find(Locator::Css(css)).await;
            let text = match found {
                Ok(found) => found.text().await.unwrap_or_default(),
                Err(_) => String::new(),
            };
            if text.contains(part) {
                return text;
            }
            assert!(
                Instant::now() < end,
                "no {part:?} in {css}:\n{text}\n{}",
                self.text("body").await
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn click(&self, css: &str) {
        let found = self.client.find(Locator::Css(css)).await;
        let found = found.unwrap_or_else(|fault| panic!("{css}: {fault}"));
        found
            .click()
            .await
            .unwrap_or_else(|fault| panic!("{css}: {fault}"));
    }

    /// Fills a field, whatever stood in it.
    pub async fn fill(&self, css: &str, text: &str) {
        let found = self.client.find(Locator::Css(css)).await;
        let found = found.unwrap_or_else(|fault| panic!("{css}: {fault}"));
        found.clear().await.expect("it can be emptied");
        found.send_keys(text).await.expect("it takes text");
    }

    /// Presses keys, as a keyboard does: whatever has the focus by then hears them.
    pub async fn press(&self, keys: &str) {
        let mut pressed = KeyActions::new("keyboard".to_owned());
        for value in keys.chars() {
            pressed = pressed
                .then(KeyAction::Down { value })
                .then(KeyAction::Up { value });
        }
        let done = self.client.perform_actions(pressed).await;
        done.expect("a keyboard");
    }

    pub async fn enter(&self) {
        self.press(&String::from(char::from(Key::Enter))).await;
    }

    pub async fn run(&self, script: &str) -> Value {
        self.client
            .execute(script, Vec::new())
            .await
            .expect("the script runs")
    }

    /// A command of Chromium's own.
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.ask("goog/cdp/execute", &body)
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/{path}", self.session);
        let mut answer = ureq::post(&url)
            .send_json(body)
            .unwrap_or_else(|fault| panic!("{url}: {fault}"));
        let answer: Value = answer.body_mut().read_json().expect("JSON");
        answer["value"].clone()
    }

    /// How the window is from now on.
    pub fn dress(&self, look: Look) {
        let (width, height, mobile) = look.size();
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let scheme =
            json!({"features": [{"name": "prefers-color-scheme", "value": look.scheme()}]});
        self.devtools("Emulation.setEmulatedMedia", &scheme);
    }

    /// Keeps the whole page as a picture, in each look, and asks axe of each.
    pub async fn keep(&self, name: &str) {
        for look in Look::ALL {
            self.dress(look);
            tokio::time::sleep(Duration::from_millis(300)).await;
            let shot = json!({"format": "png", "captureBeyondViewport": true});
            let shot = self.devtools("Page.captureScreenshot", &shot);
            let shot = base64::Engine::decode(
                &base64::engine::general_purpose::STANDARD,
                shot["data"].as_str().expect("a picture"),
            );
            let file = screenshots().join(format!("{name}-{}.png", look.name()));
            std::fs::write(&file, shot.expect("base64")).expect("the picture is kept");
            self.is_accessible(name, look).await;
            self.is_no_wider_than_the_window(name, look).await;
            if matches!(look, Look::Phone) {
                self.shows_all_of_its_cards(name).await;
            }
        }
        self.dress(Look::Light);
    }

    /// Nothing that axe finds is serious or critical.
    async fn is_accessible(&self, name: &str, look: Look) {
        self.run(AXE).await;
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document).then((found) => done(found.violations), (fault) => done(String(fault)));";
        let found = self
            .client
            .execute_async(script, Vec::new())
            .await
            .expect("axe runs");
        let all = found.as_array().unwrap_or_else(|| panic!("axe: {found}"));
        let grave: Vec<String> = all
            .iter()
            .filter(|one| matches!(one["impact"].as_str(), Some("serious" | "critical")))
            .map(|one| {
                let nodes = one["nodes"].as_array().into_iter().flatten();
                let nodes: Vec<String> = nodes
                    .map(|node| format!("{} {}", node["target"], node["failureSummary"]))
                    .collect();
                format!("{}: {}\n  {}", one["id"], one["help"], nodes.join("\n  "))
            })
            .collect();
        assert!(grave.is_empty(), "{name} ({look:?}):\n{}", grave.join("\n"));
        let lesser: Vec<&Value> = all.iter().map(|one| &one["id"]).collect();
        println!("{name} {look:?}: axe finds nothing serious; lesser: {lesser:?}");
    }

    /// What is wide scrolls in a box of its own.
    async fn is_no_wider_than_the_window(&self, name: &str, look: Look) {
        let script =
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]";
        let widths = self.run(script).await;
        assert_eq!(widths[0], widths[1], "{name} ({look:?}) scrolls sideways");
    }

    /// On a phone no cell of a list lies outside of what is seen.
    async fn shows_all_of_its_cards(&self, name: &str) {
        let script = "return [...document.querySelectorAll('table.cards, table.guards')]
            .filter((table) => table.parentElement.scrollWidth > table.parentElement.clientWidth)
            .map((table) => table.caption.textContent)";
        let wide = self.run(script).await;
        assert_eq!(
            wide,
            json!([]),
            "{name}: tables that are cut off on a phone"
        );
    }

    /// Nothing went wrong that the console tells of, but for these.
    pub fn no_errors(&self, but: &[&str]) {
        let log = self.ask("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("a log").iter();
        let grave: Vec<&Value> = entries
            .filter(|entry| entry["level"] == "SEVERE")
            .filter(|entry| {
                let message = entry["message"].as_str().unwrap_or_default();
                !but.iter().any(|known| message.contains(known))
            })
            .collect();
        assert!(grave.is_empty(), "{grave:#?}");
    }

    pub async fn close(self) {
        let client = self.client.clone();
        client.close().await.expect("it closes");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _gone = self.driver.kill();
        let _reaped = self.driver.wait();
        // Where the test failed, Chromium still runs: all of it has this profile in its arguments.
        let profile = self.profile.path().to_string_lossy().into_owned();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            let Ok(pid) = process.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&profile) && std::thread::panicking() {
                signal(pid, "KILL");
            }
        }
    }
}

/// Where the pictures are kept, for looking at.
fn screenshots() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-lab/screenshots");
    std::fs::create_dir_all(&dir).expect("the directory is made");
    dir
}
