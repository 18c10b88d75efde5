// Runs a WASI program in a page: as much of the system as the tests of the core use. Files are read from memory.
const OK = 0, BAD_FILE = 8, NO_ENTRY = 44, NOT_SUPPORTED = 58;
const FOLDER = 3; // the descriptor of the one folder that is open; files follow
const DIRECTORY = 3, REGULAR_FILE = 4;

class Exit extends Error {
  constructor(status) {
    super(`exit ${status}`);
    this.status = status;
  }
}

// a/b/../c is a/c.
function normal(path) {
  const parts = [];
  for (const part of path.split("/")) part === ".." ? parts.pop() : part !== "." && parts.push(part);
  return parts.join("/");
}

// folder: the path by which the program knows the files; files: names below it to bytes. Returns its status and output.
export async function run(program, folder, files) {
  const open = new Map(); // descriptor to {bytes, at}
  const printed = [];
  let memory;
  const view = () => new DataView(memory.buffer);
  const bytesAt = (at, size) => new Uint8Array(memory.buffer, at, size);
  const textAt = (at, size) => new TextDecoder().decode(bytesAt(at, size).slice());
  const put32 = (at, value) => view().setUint32(at, value, true);
  const put64 = (at, value) => view().setBigUint64(at, BigInt(value), true);

  function* vectors(at, count) {
    for (let index = 0; index < count; ++index) {
      yield bytesAt(view().getUint32(at + 8 * index, true), view().getUint32(at + 8 * index + 4, true));
    }
  }

  const system = {
    args_sizes_get: (count, size) => (put32(count, 0), put32(size, 0), OK),
    args_get: () => OK,
    environ_sizes_get: (count, size) => (put32(count, 0), put32(size, 0), OK),
    environ_get: () => OK,
    proc_exit(status) {
      throw new Exit(status);
    },
    fd_prestat_get(descriptor, out) {
      if (descriptor !== FOLDER) return BAD_FILE;
      put32(out, 0);
      put32(out + 4, new TextEncoder().encode(folder).length);
      return OK;
    },
    fd_prestat_dir_name(descriptor, out, size) {
      bytesAt(out, size).set(new TextEncoder().encode(folder));
      return OK;
    },
    fd_fdstat_get(descriptor, out) {
      bytesAt(out, 24).fill(0);
      view().setUint8(out, descriptor === FOLDER ? DIRECTORY : descriptor > FOLDER ? REGULAR_FILE : 2);
      put64(out + 8, 0x1fffffffn);
      put64(out + 16, 0x1fffffffn);
      return OK;
    },
    path_open(descriptor, flags, name, size, openFlags, rights, inherited, fdFlags, out) {
      const bytes = files.get(normal(textAt(name, size)));
      if (bytes === undefined) return NO_ENTRY;
      const next = FOLDER + 1 + open.size;
      open.set(next, { bytes, at: 0 });
      put32(out, next);
      return OK;
    },
    fd_read(descriptor, at, count, out) {
      const file = open.get(descriptor);
      if (file === undefined) return BAD_FILE;
      let total = 0;
      for (const to of vectors(at, count)) {
        const part = file.bytes.subarray(file.at, file.at + to.length);
        to.set(part);
        file.at += part.length;
        total += part.length;
      }
      put32(out, total);
      return OK;
    },
    fd_write(descriptor, at, count, out) {
      if (descriptor !== 1 && descriptor !== 2) return BAD_FILE;
      let total = 0;
      for (const from of vectors(at, count)) {
        printed.push(new TextDecoder().decode(from.slice()));
        total += from.length;
      }
      put32(out, total);
      return OK;
    },
    fd_seek(descriptor, offset, whence, out) {
      const file = open.get(descriptor);
      if (file === undefined) return BAD_FILE;
      file.at = Number(offset) + (whence === 0 ? 0 : whence === 1 ? file.at : file.bytes.length);
      put64(out, file.at);
      return OK;
    },
    fd_close: () => OK,
  };

  const module = await WebAssembly.compile(program);
  const asked = WebAssembly.Module.imports(module).filter((each) => each.module === "wasi_snapshot_preview1");
  const others = asked.filter((each) => !(each.name in system)).map((each) => [each.name, () => NOT_SUPPORTED]);
  const imports = { wasi_snapshot_preview1: { ...Object.fromEntries(others), ...system } };
  const instance = await WebAssembly.instantiate(module, imports);
  memory = instance.exports.memory;
  let status = 0;
  try {
    instance.exports._start();
  } catch (error) {
    if (!(error instanceof Exit)) throw error;
    status = error.status;
  }
  return { status, output: printed.join("") };
}
