// What every client answers when a server asks, and how results are read. This
// file is loaded by pages, too.

export const sampled = {
  role: "assistant",
  content: { type: "text", text: "forty-two" },
  model: "a-model",
  stopReason: "endTurn",
};

export const elicited = { action: "accept", content: { name: "Ada Lovelace" } };

export const capabilities = {
  sampling: {},
  elicitation: {},
  roots: { listChanged: true },
};

// rootsOf returns the answer to roots/list, a directory for a person with slow hands:
// clients that ask somebody take their time.
export async function rootsOf(root) {
  await new Promise((resolve) => setTimeout(resolve, 150));
  return { roots: [{ uri: root, name: "work" }] };
}

// textOf returns the text of a tool's result; a tool that failed is an error.
export function textOf(result) {
  const text = (result.content ?? [])
    .map((part) => part.text ?? JSON.stringify(part))
    .join("\n");
  if (result.isError) {
    throw new Error("the tool failed: " + text);
  }
  return text;
}

// namesOf returns the names of what a server offers.
export async function namesOf(client) {
  const { tools } = await client.listTools();
  const { prompts } = await client.listPrompts();
  const { resources } = await client.listResources();
  return {
    tools: tools.map((tool) => tool.name),
    prompts: prompts.map((prompt) => prompt.name),
    resources: resources.map((resource) => resource.uri),
  };
}
