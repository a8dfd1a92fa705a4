// Checks the custom resources in a JSON array on standard input, and prints what is wrong with each.
import * as models from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

let text = "";
for await (const chunk of process.stdin) text += chunk;
for (const resource of JSON.parse(text)) {
  try {
    new models[resource.kind](resource).validate();
  } catch (error) {
    console.log(`${resource.kind}: ${error.message}`);
  }
}
