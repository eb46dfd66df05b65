// What the task types take, out of the API's own document.

let asked = null;

/** Each task type by name: `{summary, example, parameters, fields}`, its schemas without references. */
export function taskTypes() {
  asked ??= read().catch((error) => {
    asked = null;
    throw error;
  });
  return asked;
}

async function read() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error("The document of the API cannot be read.");
  const document = await answer.json();
  const body = document.paths["/api/tasks"].post.requestBody.content["application/json"];
  const types = {};
  for (const [name, place] of Object.entries(body.schema.discriminator.mapping)) {
    const { description, properties } = at(document, place);
    const { parameters, task_type: _, ...fields } = properties;
    types[name] = {
      summary: description ?? "",
      example: body.examples?.[name]?.value.parameters ?? {},
      parameters: solved(document, parameters),
      fields: Object.fromEntries(Object.entries(fields).map(([field, schema]) => [field, solved(document, schema)])),
    };
  }
  return types;
}

function at(document, place) {
  return place.replace("#/", "").split("/").reduce((part, name) => part[name], document);
}

/**
 * A schema with what it refers to put in, down to some depth: one may contain itself. Null as one of several choices means
 * that it may be left out.
 */
function solved(document, schema, depth = 3) {
  const whole = schema.$ref ? { ...at(document, schema.$ref), ...schema } : { ...schema };
  if (!depth) return whole;
  const inner = (each) => solved(document, each, depth - 1);
  if (whole.properties) {
    whole.properties = Object.fromEntries(Object.entries(whole.properties).map(([name, each]) => [name, inner(each)]));
  }
  if (!whole.anyOf) return whole;
  const choices = whole.anyOf.filter((choice) => choice.type !== "null").map(inner);
  return choices.length === 1 ? { ...choices[0], ...whole, anyOf: undefined } : { ...whole, anyOf: choices };
}
