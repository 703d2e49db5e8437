//! No login panics its reader, and one that was read reads the same once encoded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::wire::login::{AuthSwitch, ChangeUser, Login};

fuzz_target!(|payload: &[u8]| {
    let _ = AuthSwitch::parse(payload);
    if let Ok(login) = Login::parse(payload) {
        let _ = (
            login.attributes(),
            ChangeUser::parse(payload, login.capabilities),
        );
        let again = Login::parse(&login.encode());
        assert!(again.is_ok_and(|again| again.user == login.user));
    }
});
