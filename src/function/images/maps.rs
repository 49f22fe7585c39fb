//! The files that are mapped into this process, and which of them is the program's. Any process.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::hash::Hash;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Image, libraries, program};
use crate::fork::FirstMade;
use crate::function::{EXECUTED, ProgramFile};

pub(in crate::function) fn program_file() -> io::Result<ProgramFile> {
    /// The file that was found to be both. While it is mapped, no other one gets its number.
    static EXECUTED_AND_MAPPED: FirstMade<(u64, u64)> = FirstMade::new();
    let executed = fs::metadata(EXECUTED)?;
    if EXECUTED_AND_MAPPED.get() == Some(&number_of(&executed)) {
        return Ok(ProgramFile::Executed);
    }
    let maps = Maps::read()?;
    // Code that is no file's was put there by the program itself, as packers do.
    let Some(program) = program().and_then(|program| maps.at(program.start())) else {
        return Ok(ProgramFile::Executed);
    };
    let at_path = fs::metadata(program.path).ok();
    if at_path.is_some_and(|file| number_of(&file) == number_of(&executed)) {
        EXECUTED_AND_MAPPED.get_or_make(|| number_of(&executed));
        return Ok(ProgramFile::Executed);
    }
    // The device that `maps` names is not always the one that `stat` names, so it has to be
    // the same file at the same path; where that is gone, the number has to do.
    if !program.is_at(program.path) {
        if program.is_at(Path::new(EXECUTED)) {
            return Ok(ProgramFile::Executed);
        }
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "the program can't be started once more: {EXECUTED} leads to {}, which is another program, and {} is not the file that this process has loaded; leave the program's file where it is, or start the program without the other one",
                maps.name_of(&executed),
                program.path.display()
            ),
        ));
    }
    let path = program.path.to_owned();
    let is_executed =
        |image: &Image| maps.at(image.start()).is_some_and(|file| file.is_at(Path::new(EXECUTED)));
    // The loader is among the images; a program that runs this one by itself is not.
    Ok(match libraries().images.iter().any(is_executed) {
        true => ProgramFile::ByLoader(path),
        false => ProgramFile::At(path),
    })
}

/// Returns device and inode, which name a file on this machine.
pub(super) fn number_of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Identifies the file that is mapped at `address`, if it still is the one at `path`. As long
/// as it is mapped, no other file gets its number.
pub(super) fn mapped_file(address: usize, path: &Path) -> Option<impl Hash + use<>> {
    let maps = Maps::read().ok()?;
    let file = maps.at(address)?.metadata(path)?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// The files that are mapped into this process: `proc_pid_maps(5)`.
pub(super) struct Maps(Vec<u8>);

/// One of them.
pub(super) struct MappedFile<'a> {
    pub(super) range: Range<usize>,
    pub(super) inode: u64,
    /// The path that the file has, or had when it was mapped.
    pub(super) path: &'a Path,
}

impl Maps {
    pub(super) fn read() -> io::Result<Self> {
        fs::read("/proc/self/maps").map(Self)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = MappedFile<'_>> {
        self.0.split(|byte| *byte == b'\n').filter_map(MappedFile::parse)
    }

    pub(super) fn at(&self, address: usize) -> Option<MappedFile<'_>> {
        self.files().find(|file| file.range.contains(&address))
    }

    /// The name of what was executed. The link itself may be made up by what runs this program.
    pub(super) fn name_of(&self, executed: &Metadata) -> String {
        let mapped = self.files().find(|file| file.inode == executed.ino());
        let link = || fs::read_link(EXECUTED).unwrap_or_else(|_| EXECUTED.into());
        mapped.map_or_else(link, |file| file.path.to_owned()).display().to_string()
    }
}

impl<'a> MappedFile<'a> {
    /// Returns whether the file at `path` has this file's number.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.metadata(path).is_some()
    }

    /// Returns the metadata of the file at `path`, if it is this file.
    pub(super) fn metadata(&self, path: &Path) -> Option<Metadata> {
        fs::metadata(path).ok().filter(|file| file.ino() == self.inode)
    }

    /// Parses a line, `start-end permissions offset device inode path`. `None`: it is not of a
    /// file.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        // The last field is the rest of the line, since a path may have blanks.
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let mut field = || std::str::from_utf8(fields.next()?).ok();
        let (start, end) = field()?.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (_permissions, _offset, _device) = (field()?, field()?, field()?);
        // 0 stands for memory that is of no file.
        let inode = field()?.parse().ok().filter(|inode| *inode != 0)?;
        let path = fields.next()?.trim_ascii_start();
        Some(Self {
            range: address(start)?..address(end)?,
            inode,
            path: Path::new(OsStr::from_bytes(path)),
        })
    }
}
