package chat

import (
	"encoding/json"
	"strings"
	"testing"
)

// whole is a call that has everything.
const whole = `{
  "model": "gpt-5-mini", "max_tokens": 300, "temperature": 0.2, "top_p": 1, "stop": "END", "seed": 7, "user": "u", "stream": true, "stream_options": {"include_usage": true},
  "messages": [
    {"role": "system", "content": "You judge requests."},
    {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}]},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "a hedge"}
  ],
  "tools": [{"type": "function", "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}, "strict": true}}],
  "tool_choice": {"type": "function", "function": {"name": "look"}}, "parallel_tool_calls": false,
  "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
  "logprobs": true, "metadata": {"a": "b"}
}`

func TestACallIsReadAndWrittenWhole(t *testing.T) {
	r, err := ParseRequest([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if r.MaxTokens != 300 || len(r.Stop) != 1 || r.Messages[1].Content[1].ImageURL.Detail != "low" || r.Messages[0].Content.Text() != "You judge requests." ||
		len(r.Messages[2].Content) != 0 || r.ToolChoice.Function != "look" || len(r.Extra) != 2 || string(r.Extra["logprobs"]) != "true" {
		t.Errorf("%+v", r)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseRequest(b)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if twice, err := json.Marshal(again); err != nil || string(twice) != string(b) {
		t.Errorf("%v:\n%s\n%s", err, b, twice)
	}
}

func TestWhatIsWrongWithACallIsSaid(t *testing.T) {
	const user = `"model":"m","messages":[{"role":"user","content":"x"}]`
	for _, tt := range []struct{ call, want string }{
		{`{`, "unexpected end"},
		{`[]`, "cannot be there"},
		{`{"messages":[{"role":"user","content":"x"}]}`, "model"},
		{`{"model":"m"}`, "messages: want one"},
		{`{"model":"m","messages":[{"role":"cat","content":"x"}]}`, `messages[0]: role "cat"`},
		{`{"model":"m","messages":[{"role":"user"}]}`, "content: want some"},
		{`{"model":"m","messages":[{"role":"user","content":7}]}`, "want a text or a list"},
		{`{"model":"m","messages":[{"role":"user","content":[{"type":"video"}]}]}`, `type "video"`},
		{`{"model":"m","messages":[{"role":"system","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]}`, "only a user's"},
		{`{"model":"m","messages":[{"role":"tool","content":"x"}]}`, "tool_call_id"},
		{`{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{"}}]}]}`, "arguments in JSON"},
		{`{` + user + `,"temperature":3}`, "temperature: 3"},
		{`{` + user + `,"temperature":"hot"}`, "temperature: a JSON string"},
		{`{` + user + `,"top_p":2}`, "top_p"},
		{`{` + user + `,"max_tokens":-1}`, "max_completion_tokens"},
		{`{` + user + `,"tool_choice":"required"}`, "no such tool"},
		{`{` + user + `,"tool_choice":"never"}`, "want auto, none, required"},
		{`{` + user + `,"tool_choice":{"type":"function","function":{"name":"f"}}}`, "no such tool"},
		{`{` + user + `,"tools":[{"type":"code"}]}`, "want function"},
		{`{` + user + `,"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}]}`, "that no other has"},
		{`{` + user + `,"tools":[{"type":"function","function":{"name":"f","parameters":[]}}]}`, "want a JSON Schema"},
		{`{` + user + `,"response_format":{"type":"json_schema"}}`, "response_format"},
		{`{` + user + `,"stop":[` + strings.Repeat(`"a",`, 16) + `"a"]}`, "stop"},
	} {
		if r, err := ParseRequest([]byte(tt.call)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v; want %q", tt.call, r, err, tt.want)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":""}],"stop":null,"tool_choice":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRequest(out); err != nil {
			t.Errorf("%s: what was taken is written as %s: %v", b, out, err)
		}
	})
}
