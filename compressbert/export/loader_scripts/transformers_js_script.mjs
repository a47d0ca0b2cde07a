// Opens an export folder in transformers.js. See loader_scripts/__init__.py for the arguments.
// The options are the auto class, the dtype that names the file (fp32, q8), and the folder of node_modules.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";

const ARRAYS = { I64: BigInt64Array, F32: Float32Array };

function readSafetensors(file) {
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata, ...entries } = JSON.parse(bytes.toString("utf8", 8, start));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    const copy = new Uint8Array(bytes.subarray(start + from, start + to)); // aligned for the typed array
    tensors[name] = { shape, data: new ARRAYS[dtype](copy.buffer) };
  }
  return { metadata, tensors };
}

function writeSafetensors(file, tensors, metadata) {
  const header = { __metadata__: metadata };
  const parts = [];
  let offset = 0;
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    const dtype = data instanceof BigInt64Array ? "I64" : "F32";
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    parts.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    offset += data.byteLength;
  }
  const text = JSON.stringify(header);
  const json = Buffer.from(text + " ".repeat((8 - (Buffer.byteLength(text) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(file, Buffer.concat([length, json, ...parts]));
}

async function main(folder, inputs, outputs, className, dtype, modules) {
  const require = createRequire(join(modules, "package.json"));
  const library = require("@huggingface/transformers");
  const { AutoTokenizer, Tensor, env } = library;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = dirname(folder);
  env.useFSCache = false;
  const name = basename(folder);
  const model = await library[className].from_pretrained(name, { dtype, local_files_only: true });
  const { metadata, tensors } = readSafetensors(inputs);
  const answers = {};
  for (const batch of [...new Set(Object.keys(tensors).map((key) => key.split(".")[0]))].sort()) {
    const given = {};
    for (const [key, { shape, data }] of Object.entries(tensors)) {
      if (key.startsWith(`${batch}.`)) given[key.split(".")[1]] = new Tensor("int64", data, shape);
    }
    const found = await model(given);
    for (const [key, value] of Object.entries(found)) {
      if (value instanceof Tensor) answers[`${batch}.${key}`] = { shape: value.dims, data: value.data };
    }
  }
  const tokenizer = await AutoTokenizer.from_pretrained(name, { local_files_only: true });
  for (const [index, [text, pair]] of JSON.parse(metadata.texts).entries()) {
    const ids = tokenizer(text, { text_pair: pair ?? null }).input_ids;
    answers[`text.${String(index).padStart(4, "0")}`] = { shape: [ids.data.length], data: ids.data };
  }
  writeSafetensors(outputs, answers, { version: env.version });
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
