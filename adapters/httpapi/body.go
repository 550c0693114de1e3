package httpapi

import (
	"bytes"
	"mime"
	"net/http"
	"strings"

	"github.com/jobgate/jobgate/adapters/wire/strictjson"
)

// mediaType is what bodies are.
const mediaType = "application/json"

// commonBody is what most bodies are shorter than, in bytes.
const commonBody = 4 << 10

// read decodes the request's body into v and reports whether there was one. It answers too_large without reading when
// the client says so beforehand, and as soon as it shows when the client does not.
func (a *api) read(w http.ResponseWriter, r *http.Request, v any) (present bool, err error) {
	if r.ContentLength > a.MaxBody {
		return true, tooLarge(a.MaxBody)
	}
	// Room for as much as the client says, but no more than most need: what it says costs it nothing.
	room := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), commonBody)+bytes.MinRead))
	_, err = room.ReadFrom(http.MaxBytesReader(w, r.Body, a.MaxBody))
	data := room.Bytes()
	switch {
	case err != nil:
		return true, unreadable(err)
	case len(data) == 0:
		return false, nil
	case !isJSON(r.Header):
		return true, unsupportedMediaType()
	}
	return true, strictjson.Decode(data, v)
}

// isJSON reports whether the one Content-Type is application/json. JSON is UTF-8 (RFC 8259 §8.1): saying so is
// allowed, another charset is not.
func isJSON(h http.Header) bool {
	values := h.Values("Content-Type")
	if len(values) != 1 {
		return false
	}
	if values[0] == mediaType {
		return true
	}
	media, parameters, err := mime.ParseMediaType(values[0])
	if err != nil || media != mediaType {
		return false
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}
