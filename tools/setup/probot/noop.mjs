// Probot with a handler that does nothing: the peer of `./x bench intake`. It says where it listens.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createNodeMiddleware, createProbot } from "probot";

const { privateKey } = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs1", format: "pem" },
});
const app = (probot) => {
  probot.on("issue_comment.created", async () => {});
};
const probot = createProbot({
  env: { APP_ID: "1", PRIVATE_KEY: privateKey, WEBHOOK_SECRET: process.argv[2], LOG_LEVEL: "fatal" },
});
const middleware = await createNodeMiddleware(app, { probot, webhooksPath: "/hooks" });
const server = createServer((request, response) =>
  middleware(request, response, () => response.writeHead(404).end()),
);
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}/hooks` }));
});
