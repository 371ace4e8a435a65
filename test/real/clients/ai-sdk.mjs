// The MCP client of the AI SDK, @ai-sdk/mcp. It can be asked by elicitation only.
import { createMCPClient, ElicitationRequestSchema } from "@ai-sdk/mcp";
import { elicited, textOf } from "./answers.mjs";
import { drive } from "./drive.mjs";

let client;
let tools;

await drive({
  async connect({ url }) {
    client = await createMCPClient({
      transport: { type: "http", url },
      capabilities: { elicitation: {} },
    });
    client.onElicitationRequest(ElicitationRequestSchema, () => elicited);
    return client.serverInfo;
  },
  async list() {
    tools = await client.tools();
    const { prompts } = await client.experimental_listPrompts();
    const { resources } = await client.listResources();
    return {
      tools: Object.keys(tools),
      prompts: prompts.map((prompt) => prompt.name),
      resources: resources.map((resource) => resource.uri),
    };
  },
  async call({ name, arguments: args }) {
    if (!tools?.[name]) {
      throw new Error("there is no tool " + name);
    }
    return textOf(
      await tools[name].execute(args, { toolCallId: "1", messages: [] }),
    );
  },
  close: () => client?.close(),
});
