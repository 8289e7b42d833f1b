//! What the library says about the very test program it is in.

use std::process::Command;

static MARK: u64 = 0x0123_4567_89ab_cdef;
static mut ZEROS: [u8; 4096] = [0; 4096];

const CHILD: &str = "POOL_IMAGE_TEST_CHILD";

#[test]
fn a_static_is_found_again_by_its_offset() {
    let here = &raw const MARK;
    let offset = pool_image::offset_of(here.cast()).expect("a static of the main program");
    let found = pool_image::resolve(offset, size_of::<u64>(), align_of::<u64>());
    assert_eq!(found, Some(here.cast()));
    let zeros = (&raw const ZEROS).cast::<u8>();
    let offset = pool_image::offset_of(zeros).expect("memory that the file does not hold is part of it too");
    assert_eq!(pool_image::resolve(offset, 4096, 1), Some(zeros));
    assert!(pool_image::offset_of(pool_image::identity as *const u8).is_some(), "so is code");
}

#[test]
fn what_is_out_of_range_or_misaligned_is_refused() {
    let offset = pool_image::offset_of((&raw const MARK).cast()).expect("a static of the main program");
    assert_eq!(pool_image::resolve(offset + 1, 1, 8), None);
    assert_eq!(pool_image::resolve(offset, usize::MAX, 1), None);
    assert_eq!(pool_image::resolve(offset, 1 << 40, 1), None);
    assert_eq!(pool_image::resolve(1 << 40, 1, 1), None);
    assert_eq!(pool_image::resolve(u64::MAX, 1, 1), None);
}

#[test]
fn the_heap_the_stack_and_other_libraries_are_outside() {
    let boxed = Box::new(1u8);
    let local = 1u8;
    assert_eq!(pool_image::offset_of(&raw const *boxed), None);
    assert_eq!(pool_image::offset_of(&raw const local), None);
    assert_eq!(pool_image::offset_of(std::ptr::null()), None);
    assert!(pool_image::in_main_image());
}

#[test]
fn the_identity_is_the_same_in_a_child_of_the_same_program() {
    let mine = pool_image::identity().expect("an identity");
    assert!(std::ptr::eq(mine, pool_image::identity().expect("the same")), "found out once");
    assert!(mine.bytes.len() >= 10, "{mine:?}");
    let program = std::env::current_exe().expect("a path");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(identity_printed_by(&program), hex(&mine.bytes));

    // A copy is another file: refusing it costs nothing, taking it for the same would rest on luck.
    let copy =
        std::env::temp_dir().join(format!("pool-image-{}{}", std::process::id(), std::env::consts::EXE_SUFFIX));
    std::fs::copy(&program, &copy).expect("a copy");
    let of_copy = identity_printed_by(&copy);
    std::fs::remove_file(&copy).expect("removed");
    if cfg!(not(target_vendor = "apple")) {
        assert_ne!(of_copy, hex(&mine.bytes));
    }
}

fn identity_printed_by(program: &std::path::Path) -> String {
    let child = Command::new(program)
        .args(["child_prints_its_identity", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("the child runs");
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    let (_, rest) = text.split_once("identity=").unwrap_or_else(|| panic!("no identity in {text:?}"));
    rest.split('.').next().expect("something").to_owned()
}

/// Not a test of its own: the other half of the one above.
#[test]
fn child_prints_its_identity() {
    if std::env::var_os(CHILD).is_some() {
        let hex: String = pool_image::identity().expect("one").bytes.iter().map(|b| format!("{b:02x}")).collect();
        println!("identity={hex}.");
    }
}
