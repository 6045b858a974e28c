//! Any bytes as a challenge or as an answer: no panic. What is accepted reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_creds::{Answer, Challenge};

fuzz_target!(|json: &[u8]| {
    if let Ok(challenge) = Challenge::from_json(json) {
        let again = Challenge::from_json(challenge.to_json().as_bytes()).unwrap();
        assert_eq!(again, challenge);
    }
    if let Ok(answer) = Answer::from_json(json) {
        let again = Answer::from_json(answer.to_json().as_bytes()).unwrap();
        assert_eq!(*again.to_json(), *answer.to_json());
    }
});
