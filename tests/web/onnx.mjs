// node run.mjs NODE_MODULES (MODEL PICTURE OUT)...: raw uint8 images through onnxruntime-web, outputs as JSON.
import fs from "node:fs";
import { createRequire } from "node:module";

const [folder, ...jobs] = process.argv.slice(2);
const ort = createRequire(`${folder}/`)("onnxruntime-web");
ort.env.wasm.numThreads = 1;

for (let k = 0; k < jobs.length; k += 3) {
  const [model, image, out] = jobs.slice(k, k + 3);
  const session = await ort.InferenceSession.create(fs.readFileSync(model), { executionProviders: ["wasm"] });
  const { name, shape } = session.inputMetadata[0];
  const outputs = await session.run({ [name]: new ort.Tensor("uint8", fs.readFileSync(image), shape) });
  const plain = Object.entries(outputs).map(([key, value]) => [key, Array.from(value.data)]);
  fs.writeFileSync(out, JSON.stringify(Object.fromEntries(plain)));
}
