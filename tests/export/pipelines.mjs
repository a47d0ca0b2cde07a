// What a newcomer types: a pipeline over an export folder in transformers.js.
// Called as `pipelines.mjs NODE_MODULES_FOLDER TASK EXPORT_FOLDER DTYPE TEXT`; prints the answer as JSON.
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";

const [modules, task, folder, dtype, text] = process.argv.slice(2);
const { pipeline, env } = createRequire(join(modules, "package.json"))("@huggingface/transformers");
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
env.useFSCache = false;
const ask = await pipeline(task, basename(folder), { dtype });
const options = task === "feature-extraction" ? { pooling: "mean", normalize: true } : {};
const found = await ask(text, options);
console.log(JSON.stringify(found.tolist ? found.tolist() : found));
