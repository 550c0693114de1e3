package httpapi

import (
	_ "embed" // for the document
	"net/http"

	"github.com/jobgate/jobgate/domain"
)

//go:embed openapi.json
var openAPI []byte

// describe answers with the OpenAPI document, the one answer that is everybody's and changes with releases only.
func describe(w http.ResponseWriter, _ *http.Request, _ domain.Principal) error {
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, openAPI)
	return nil
}
