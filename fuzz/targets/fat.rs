//! Any bytes as a FAT image: no panic and no endless work, to read and to change; what is written reads back.
#![no_main]

use std::any::Any;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use libfuzzer_sys::fuzz_target;
use ukikit_esp::volume::{Blocks, Fat, NodeKind, Volume};

#[derive(Debug, Clone)]
struct Medium(Arc<Mutex<Vec<u8>>>);

impl Medium {
    fn at<T>(&self, place: u64, size: usize, use_: impl FnOnce(&mut [u8]) -> T) -> io::Result<T> {
        let mut bytes = self.0.lock().unwrap();
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let part = bytes
            .get_mut(place..)
            .and_then(|bytes| bytes.get_mut(..size));
        part.map(use_)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Blocks for Medium {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read_at(&self, place: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.at(place, buffer.len(), |part| buffer.copy_from_slice(part))
    }

    fn write_at(&self, place: u64, bytes: &[u8]) -> io::Result<()> {
        self.at(place, bytes.len(), |part| part.copy_from_slice(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}

fuzz_target!(|bytes: &[u8]| {
    // The sectors of zeros that a real image has in front of its first table.
    let mut image = bytes.to_vec();
    image.resize(64 * 1024, 0);
    let Ok(fat) = Fat::open(Medium(Arc::new(Mutex::new(image)))) else {
        return;
    };
    let lock = fat.lock().unwrap();
    for node in fat.list("").unwrap_or_default().into_iter().take(8) {
        if node.kind == NodeKind::Directory {
            let _ = fat.list(&node.name);
            let _ = fat.remove_directory(&node.name);
        } else if let Ok(mut file) = fat.open(&node.name) {
            let _ = file.read_to_end(&mut Vec::new());
        }
    }
    let _ = fat.make_directory("a directory");
    if write(&fat).is_ok() {
        let mut content = Vec::new();
        if fat.rename("a new file", "a directory/NAME").is_ok() {
            fat.open("a directory/NAME")
                .unwrap()
                .read_to_end(&mut content)
                .unwrap();
            assert_eq!(content, [7; 3000]);
            let _ = fat.remove("a directory/NAME");
        }
    }
    drop(lock);
});

fn write(fat: &Fat) -> io::Result<()> {
    let mut sink = fat.create("a new file", false)?;
    sink.write_all(&[7; 3000])?;
    sink.sync()
}
