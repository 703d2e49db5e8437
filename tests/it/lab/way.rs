//! A way to a server that a test can look into: what was said on it, answers that turn to nonsense,
//! and a cut, after which nothing passes and nobody is told. It runs beside its test, which must have a thread for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// See the module.
pub struct Way {
    /// Where it begins.
    pub address: String,
    /// Whether answers are exchanged for nonsense.
    pub nonsense: Arc<AtomicBool>,
    /// Whether nothing passes.
    cut: watch::Sender<bool>,
    /// Whether nobody is there: connections end, and new ones do at once.
    gone: watch::Sender<bool>,
    /// All that the proxy has said to the server.
    said: Arc<Mutex<Vec<u8>>>,
}

impl Way {
    /// To the server at this address.
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let way = Self {
            address: listener.local_addr().expect("an address").to_string(),
            nonsense: Arc::default(),
            cut: watch::Sender::new(false),
            gone: watch::Sender::new(false),
            said: Arc::default(),
        };
        let (nonsense, said) = (Arc::clone(&way.nonsense), Arc::clone(&way.said));
        let (cut, gone) = (way.cut.subscribe(), way.gone.subscribe());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *gone.borrow() {
                    continue;
                }
                let mut gone = gone.clone();
                let (nonsense, said) = (Arc::clone(&nonsense), Arc::clone(&said));
                let (server, cut) = (server.clone(), cut.clone());
                tokio::spawn(async move {
                    let far = TcpStream::connect(&server).await?;
                    tokio::select! {
                        done = pipe(near, far, &nonsense, &said, cut) => done,
                        _ = gone.wait_for(|gone| *gone) => Ok(()),
                    }
                });
            }
        });
        way
    }

    /// Cuts the way, or joins it again: bytes wait meanwhile, as behind a broken switch.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// Whether the server is gone: connections end, and new ones do at once.
    pub fn gone(&self, gone: bool) {
        self.gone.send_replace(gone);
    }

    /// Whether these words were said to the server.
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
    cut: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut cuts = [cut.clone(), cut];
    let [up_cut, down_cut] = &mut cuts;
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
            drop(up_cut.wait_for(|cut| !cut).await);
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
            drop(down_cut.wait_for(|cut| !cut).await);
            to.write_all(&piece[..n]).await?;
        }
    };
    tokio::select! { done = up => done, done = down => done }
}
