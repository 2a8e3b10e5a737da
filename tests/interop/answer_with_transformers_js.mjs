// What transformers.js answers from exported folders, as JSON.
//
//     npm install --ignore-scripts --prefix /tmp/js @huggingface/transformers
//     TRANSFORMERS_JS=/tmp/js node tests/interop/answer_with_transformers_js.mjs /tmp/interop/llama-onnx ...
//
// Each folder holds the interop.json that cases.py wrote. A line of JSON a folder: {"answers": ...} or the error.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const place = path.resolve(process.env.TRANSFORMERS_JS ?? ".");
const library = createRequire(path.join(place, "package.json"))("@huggingface/transformers");
const { AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, env, pipeline } = library;

async function answers(folder) {
  const asked = JSON.parse(readFileSync(path.join(folder, "interop.json"), "utf-8"));
  env.allowRemoteModels = false;
  env.localModelPath = path.dirname(folder) + path.sep;
  const name = path.basename(folder);
  const options = { dtype: "fp32", device: "cpu" };
  if (asked.task === "text-classification") {
    const classify = await pipeline(asked.task, name, options);
    return (await classify(asked.texts)).map(({ label, score }) => [label, score]);
  }
  const kind = asked.task === "text-generation" ? AutoModelForCausalLM : AutoModelForSeq2SeqLM;
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  const model = await kind.from_pretrained(name, options);
  const inputs = tokenizer(asked.texts, { padding: true });
  const written = await model.generate({ ...inputs, max_new_tokens: asked.max_new_tokens, do_sample: false });
  const start = asked.task === "text-generation" ? inputs.input_ids.dims[1] : 0;
  return written.tolist().map((row) => row.slice(start).map(Number));
}

for (const folder of process.argv.slice(2)) {
  try {
    console.log(JSON.stringify({ answers: await answers(path.resolve(folder)) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
