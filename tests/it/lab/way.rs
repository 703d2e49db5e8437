//! A way to the shadow that a test can look into: what was said on it, and answers that turn to
//! nonsense. It runs beside its test, which must have a thread for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// See the module.
pub struct Way {
    /// Where it begins.
    pub address: String,
    /// Whether answers are exchanged for nonsense.
    pub nonsense: Arc<AtomicBool>,
    /// All that the proxy has said to the shadow.
    said: Arc<Mutex<Vec<u8>>>,
}

impl Way {
    /// To the shadow at `shadow`.
    pub async fn to(shadow: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let way = Self {
            address: listener.local_addr().expect("an address").to_string(),
            nonsense: Arc::default(),
            said: Arc::default(),
        };
        let (nonsense, said) = (Arc::clone(&way.nonsense), Arc::clone(&way.said));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (nonsense, said) = (Arc::clone(&nonsense), Arc::clone(&said));
                let shadow = shadow.clone();
                tokio::spawn(async move {
                    let far = TcpStream::connect(&shadow).await?;
                    pipe(near, far, &nonsense, &said).await
                });
            }
        });
        way
    }

    /// Whether these words were said to the shadow.
    pub fn has_said(&self, words: &str) -> bool {
        let said = self.said.lock().expect("nobody panics with it");
        said.windows(words.len())
            .any(|piece| piece.eq_ignore_ascii_case(words.as_bytes()))
    }
}

async fn pipe(
    near: TcpStream,
    far: TcpStream,
    nonsense: &AtomicBool,
    said: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let ((mut from, mut to), (mut back, mut forth)) = (near.into_split(), far.into_split());
    let up = async {
        let mut piece = vec![0; 4096];
        loop {
            let n = from.read(&mut piece).await?;
            if n == 0 {
                return Ok(());
            }
            said.lock()
                .expect("nobody panics with it")
                .extend_from_slice(&piece[..n]);
            forth.write_all(&piece[..n]).await?;
        }
    };
    let down = async {
        let mut piece = vec![0; 4096];
        loop {
            let n = back.read(&mut piece).await?;
            if n == 0 {
                return Ok(());
            }
            if nonsense.load(Ordering::Relaxed) {
                piece[..n].iter_mut().for_each(|byte| *byte ^= 0xA5);
            }
            to.write_all(&piece[..n]).await?;
        }
    };
    tokio::select! { done = up => done, done = down => done }
}
