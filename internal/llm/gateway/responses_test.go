package gateway

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

func TestCallsOfTheResponsesAPIAreReadAsChats(t *testing.T) {
	t.Parallel()
	r, _, err := parseResponses([]byte(`{
		"model":"m","instructions":"Judge.","max_output_tokens":50,"reasoning":{"effort":"low"},"metadata":{"a":"b"},
		"input":[
			{"role":"user","content":[{"type":"input_text","text":"What is this?"},{"type":"input_image","image_url":"data:image/png;base64,AAAA","detail":"low"}]},
			{"type":"reasoning","summary":[]},
			{"type":"function_call","call_id":"c1","name":"look","arguments":"{}"},
			{"type":"function_call_output","call_id":"c1","output":"a hedge"},
			{"type":"message","role":"assistant","content":[{"type":"output_text","text":"A hedge."}]},
			{"role":"user","content":"Sure?"}],
		"tools":[{"type":"function","name":"look","parameters":{"type":"object"}}],"tool_choice":{"type":"function","name":"look"},
		"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"}}}}`), time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	b, e := json.Marshal(r)
	if e != nil {
		t.Fatal(e)
	}
	want := `{"model":"m","messages":[{"role":"system","content":"Judge."},` +
		`{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}]},` +
		`{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{}"}}]},{"role":"tool","content":"a hedge","tool_call_id":"c1"},` +
		`{"role":"assistant","content":[{"type":"text","text":"A hedge."}]},{"role":"user","content":"Sure?"}],` +
		`"tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object"}}}],"tool_choice":{"function":{"name":"look"},"type":"function"},` +
		`"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},"max_completion_tokens":50}`
	got := strings.ReplaceAll(string(b), `"content":"A hedge."`, `"content":[{"type":"text","text":"A hedge."}]`) // one text is written as one
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if string(r.Extra["reasoning_effort"]) != `"low"` || string(r.Extra["metadata"]) != `{"a":"b"}` {
		t.Errorf("%s", r.Extra)
	}
}

func TestWhatIsWrongWithACallOfTheResponsesAPIIsSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{`:                       "unexpected end",
		`{"model":"m"}`:           "input",
		`{"model":"m","input":7}`: "input",
		`{"model":7,"input":"x"}`: "model",
		`{"input":"x"}`:           "model",
		`{"model":"m","input":[{"type":"item_reference","id":"x"}]}`:                "item_reference",
		`{"model":"m","input":[{"role":"user","content":[{"type":"input_file"}]}]}`: "input_file",
		`{"model":"m","input":"x","tools":[{"type":"web_search"}]}`:                 "only functions",
		`{"model":"m","input":"x","tool_choice":{"type":"web_search"}}`:             "tool_choice",
		`{"model":"m","input":"x","background":true}`:                               "nothing of earlier calls",
		`{"model":"m","input":"x","conversation":"conv_1"}`:                         "nothing of earlier calls",
		`{"model":"m","input":"x","text":{"format":{"type":"xml"}}}`:                "response_format",
	} {
		if _, _, err := parseResponses([]byte(text), time.Unix(0, 0)); err == nil || err.Status != 400 || !strings.Contains(err.Message, want) {
			t.Errorf("%s: %+v, want %q", text, err, want)
		}
	}
}

func FuzzResponses(f *testing.F) {
	f.Add([]byte(`{"model":"m","input":"x","stream":true}`), "content", "stop")
	f.Add([]byte(`{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]}]}`), "", "length")
	f.Fuzz(func(t *testing.T, body []byte, text, finish string) {
		r, form, err := parseResponses(body, time.Unix(0, 0))
		if err != nil {
			return
		}
		if r.Model == "" || len(r.Messages) == 0 {
			t.Fatalf("%q: %+v", body, r)
		}
		piece, e := form.piece(&chat.Chunk{Choices: []chat.ChunkChoice{{Delta: chat.Delta{Content: text}, FinishReason: &finish}}})
		if e != nil {
			t.Fatal(e)
		}
		events := string(piece)
		end, e := form.end()
		if e != nil {
			t.Fatal(e)
		}
		for event := range strings.SplitSeq(strings.TrimSuffix(events+string(end), "\n\n"), "\n\n") {
			_, data, ok := strings.Cut(event, "data: ")
			if !ok || !json.Valid([]byte(data)) {
				t.Errorf("%q is no event", event)
			}
		}
	})
}
