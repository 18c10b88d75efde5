// Runs a WASI program in Node: node run_wasi.mjs FOLDER PROGRAM [ARGUMENT …]. It may read the folder.
import { readFile } from "node:fs/promises";
import process from "node:process";

process.removeAllListeners("warning"); // that WASI is experimental
const { WASI } = await import("node:wasi");
const [folder, program, ...rest] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [program, ...rest], preopens: { [folder]: folder } });
const module = await WebAssembly.compile(await readFile(program));
process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
