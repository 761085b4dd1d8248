//! What a person may want to know about an answer that says no.

use serde_json::Value;

/// Whether the answer says that it was not done.
pub(super) fn refused(answer: &str) -> bool {
    match serde_json::from_str::<Value>(answer) {
        Ok(Value::Object(answer)) => {
            answer.get("error").is_some() || answer.get("status").is_some_and(|status| *status != 0)
        }
        Ok(_) => false,
        // Plain text comes for an action that is not known.
        Err(_) => true,
    }
}

/// What to type next.
pub(super) fn hint(answer: &str, has_token: bool) -> &'static str {
    let has = |part: &str| answer.contains(part);
    if has("Api Token") {
        return match has_token {
            true => {
                "the meta server does not know this token; its valid-api-tokens.properties has one a line, in front of ="
            }
            false => {
                "this meta server asks for a token here; give --token-file=FILE or --token=TOKEN, one of its valid-api-tokens.properties"
            }
        };
    }
    if has("不支持的 action") {
        return "this meta server does not know the action; it is older, or QMQ's";
    }
    if has("already exist") || has("already added") || has("is there already") {
        return "`qmq tools ListBrokers` shows what is there; `qmq tools ReplaceBroker` puts another in its place";
    }
    if has("最后一个 brokerGroup") {
        return "it is the last group of the route; give the subject another first with `qmq tools AddSubjectBrokerGroup`";
    }
    if has("brokerGroup 暂时不存在") || has("no exist broker") {
        return "`qmq tools ListBrokerGroups` and `qmq tools ListBrokers` show what is there; a group appears when its master has started";
    }
    if has("没有分配过 brokerGroup") || has("find no route") {
        return "the subject has no route yet: it gets one when a client first asks for it";
    }
    if has("reset failed") {
        return "groups that are not named here were reset; start what is away and type it again";
    }
    "it was not done, and the answer says why"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        for refusal in [
            r#"{"status":-1,"message":"x","data":null}"#,
            r#"{"error":"主题已存在"}"#,
            "need provide action param",
        ] {
            assert!(refused(refusal), "{refusal}");
        }
        for answer in [
            r#"{"status":0,"message":"","data":[]}"#,
            r#"{"data":{"name":"s","tag":"t","updateTime":1}}"#,
            r#"{"subject":"s","brokerGroups":["g"],"version":1,"updateTime":1}"#,
            "[]",
        ] {
            assert!(!refused(answer), "{answer}");
        }
    }

    #[test]
    fn who_has_no_token_is_told_to_give_one_and_who_has_that_it_is_unknown() {
        let answer = r#"{"status":-1,"message":"没有提供合法的 Api Token","data":null}"#;
        assert!(hint(answer, false).contains("--token-file"));
        assert!(hint(answer, true).contains("does not know this token"));
    }
}
