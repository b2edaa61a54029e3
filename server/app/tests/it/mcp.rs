//! Daemons as tools, for a client of the Model Context Protocol: the official one.

use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ServiceError, ServiceExt};
use serde_json::{Value as Json, json};

use crate::house::House;
use crate::jail_stages::book;

const GREET: &str = "
  description: Greets someone
  inputs:
    - { name: who, type: string, description: Whom }
    - { name: often, type: integer, default: 1 }
  stages:
    - { name: Greet, script: 'echo hello, $who', output: said }
";

const COUNT: &str = "
  stages:
    - { name: Count, script: 'echo \"{ \\\"count\\\": 3 }\"', schema: { type: object }, output: counted }
";

const BREAK: &str = "
  stages:
    - { name: Break, script: 'exit 3' }
";

type Client = RunningService<RoleClient, ()>;

async fn connect(house: &House, token: &str) -> anyhow::Result<Client> {
    let (url, _) = house.door();
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{url}/mcp")).auth_header(token);
    let http = reqwest::Client::builder().no_proxy().build()?;
    Ok(().serve(StreamableHttpClientTransport::with_client(http, config)).await?)
}

async fn call(client: &Client, name: &str, arguments: Json) -> Result<CallToolResult, ServiceError> {
    let arguments = arguments.as_object().unwrap().clone();
    client.call_tool(CallToolRequestParams::new(name.to_owned()).with_arguments(arguments)).await
}

fn text(result: &CallToolResult) -> &str {
    let [ContentBlock::Text(text)] = &result.content[..] else { panic!("{result:?}") };
    &text.text
}

#[test]
fn a_client_finds_daemons_and_calls_them() {
    let house = House::new();
    let _tree = book(&house, &[("greet", GREET), ("count", COUNT), ("break", BREAK)]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = connect(&house, house.door().1).await.unwrap();
        assert_eq!(client.peer_info().unwrap().server_info.as_ref().unwrap().name, "spellbook");
        let tools = client.list_all_tools().await.unwrap();
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(names, ["ada__book__break", "ada__book__count", "ada__book__greet"]);
        let greet = &tools[2];
        assert_eq!(greet.description.as_deref(), Some("Greets someone (ada/book/greet)"));
        assert_eq!(greet.input_schema["required"], json!(["who"]));
        assert_eq!(greet.input_schema["properties"]["often"]["default"], 1);

        let result = call(&client, "ada__book__greet", json!({ "who": "$(reboot)" })).await.unwrap();
        assert_eq!((text(&result), result.is_error), ("hello, $(reboot)", Some(false)));
        let result = call(&client, "ada__book__count", json!({})).await.unwrap();
        assert_eq!(result.structured_content, Some(json!({ "count": 3 })));

        let result = call(&client, "ada__book__break", json!({})).await.unwrap();
        assert_eq!(result.is_error, Some(true));
        assert!(text(&result).starts_with("failed: Break: exited with status 3 (run_"), "{result:?}");
        let result = call(&client, "ada__book__greet", json!({ "whom": "x" })).await.unwrap();
        assert_eq!(result.is_error, Some(true));
        assert!(text(&result).contains("`whom` is not an input"), "{result:?}");
        let error = call(&client, "ada__book__none", json!({})).await.unwrap_err();
        assert!(error.to_string().contains("there is no tool `ada__book__none`"), "{error}");
        client.cancel().await.unwrap();

        assert!(connect(&house, "sb_nobody").await.is_err(), "a stranger is let in");
    });
    let runs = house.get("runs?repository=ada/book");
    assert_eq!(runs["items"].as_array().unwrap().len(), 3, "{runs:#}");
}
