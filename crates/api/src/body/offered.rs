//! Fields that other servers know: those that change nothing, and those that are refused unless they ask for nothing.

use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// Fields that change nothing about the answer; accepted and forgotten.
pub(super) const HARMLESS: [&str; 17] = [
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "parallel_tool_calls",
    "reasoning_effort",
    "cache_prompt",
    "id_slot",
    "samplers",
    "t_max_prompt_ms",
    "n_keep",
    "timings_per_token",
    "keep_alive",
    "spaces_between_special_tokens",
    "add_special_tokens",
];

/// Fields that would change the answer and are not offered, with the values that ask for nothing.
pub(super) fn neutral_values(field: &str) -> Option<Value> {
    Some(match field {
        "echo"
        | "use_beam_search"
        | "logprobs"
        | "diffusing"
        | "early_stopping"
        | "include_stop_str_in_output"
        | "return_token_ids"
        | "return_tokens_as_token_ids" => json!([false]),
        "skip_special_tokens" => json!([true]),
        "best_of" | "length_penalty" => json!([1]),
        "top_logprobs" => json!([0]),
        "modalities" => json!([["text"]]),
        "tool_choice" | "function_call" => json!(["none", "auto"]),
        "tools" | "functions" | "stop_token_ids" | "allowed_token_ids" | "bad_words"
        | "logits_processors" => {
            json!([[]])
        }
        "response_format" => json!([{ "type": "text" }]),
        "audio"
        | "chat_template"
        | "structured_outputs"
        | "guided_json"
        | "guided_choice"
        | "json_schema"
        | "lora"
        | "prediction"
        | "prompt_logprobs"
        | "truncate_prompt_tokens"
        | "prompt_embeds" => json!([]),
        "grammar" | "guided_grammar" | "guided_regex" => json!([""]),
        _ => return None,
    })
}

/// Refuses a field that is not offered, unless its value asks for nothing.
pub(super) fn judge(field: &str, values: &Map<String, Value>) -> Result<(), ApiError> {
    let value = values.get(field).unwrap_or(&Value::Null);
    if ask_for_no_tool(field, values) {
        return Ok(());
    }
    let neutral = neutral_values(field).unwrap_or_default();
    let accepted = neutral.as_array().map_or(&[][..], Vec::as_slice);
    let same = |a: &Value, b: &Value| a == b || (a.is_number() && a.as_f64() == b.as_f64());
    if value.is_null() || accepted.iter().any(|neutral| same(neutral, value)) {
        return Ok(());
    }
    let mut names = vec!["null".to_owned()];
    names.extend(accepted.iter().map(Value::to_string));
    Err(ApiError::Unsupported { param: field.to_owned(), neutral: names.join(" or ") })
}

/// Returns true if a field lists tools of which none may be used: agents end with such a request.
fn ask_for_no_tool(field: &str, fields: &Map<String, Value>) -> bool {
    let choice = match field {
        "tools" => "tool_choice",
        "functions" => "function_call",
        _ => return false,
    };
    fields.get(choice).is_some_and(|choice| choice == "none")
}
