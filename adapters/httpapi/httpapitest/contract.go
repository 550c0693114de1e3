// Package httpapitest holds answers of the REST API against its contract: the OpenAPI document that it serves, and what
// holds for every answer.
package httpapitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/jobgate/jobgate/adapters/httpapi"
)

// contract is the document as it is served.
var contract = sync.OnceValues(func() (*openapi3.T, error) {
	w := httptest.NewRecorder()
	httpapi.New(httpapi.Options{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", http.NoBody))
	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	if err != nil {
		return nil, err
	}
	// Clients must expect members that the document does not name. Here each has to be named.
	for _, schema := range doc.Components.Schemas {
		if schema.Value.Properties != nil {
			schema.Value.UnevaluatedProperties = openapi3.BoolSchema{Has: new(false)}
		}
	}
	return doc, nil
})

// Document returns the contract.
func Document() (*openapi3.T, error) { return contract() }

// Breach returns what of the contract the answer to a request breaks, nil when nothing. The request was sent with body;
// when it was accepted it must be a request by the contract, too.
func Breach(r *http.Request, body string, status int, header http.Header, answer []byte) error {
	if header.Get("X-Content-Type-Options") != "nosniff" {
		return errors.New("the answer lacks X-Content-Type-Options")
	}
	var problem struct {
		RequestID string `json:"request_id"`
	}
	if header.Get("X-Request-Id") == "" && (json.Unmarshal(answer, &problem) != nil || problem.RequestID == "") {
		return errors.New("the answer names no request")
	}
	doc, err := contract()
	if err != nil {
		return err
	}
	r = r.Clone(context.WithoutCancel(r.Context()))
	r.Body = io.NopCloser(strings.NewReader(body))
	head := r.Method == http.MethodHead
	if head {
		r.Method = http.MethodGet // the validator lets every answer to a HEAD pass
	}
	route, parameters := findRoute(doc, r)
	request := &openapi3filter.RequestValidationInput{
		Request: r, Route: route, PathParams: parameters,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if status < 300 {
		if err := openapi3filter.ValidateRequest(r.Context(), request); err != nil {
			return fmt.Errorf("accepted a request that is none: %w", err)
		}
	}
	return openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request, Status: status, Header: header, Body: io.NopCloser(bytes.NewReader(answer)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: head},
	})
}

// findRoute returns the operation of a request. One that there is none for can only be not found or not allowed.
func findRoute(doc *openapi3.T, r *http.Request) (*routers.Route, map[string]string) {
	sent := strings.Split(r.URL.EscapedPath(), "/")
paths:
	for template, item := range doc.Paths.Map() {
		segments, parameters := strings.Split(template, "/"), map[string]string{}
		if len(segments) != len(sent) || item.GetOperation(r.Method) == nil {
			continue
		}
		for i, segment := range segments {
			if strings.HasPrefix(segment, "{") && sent[i] != "" {
				value, err := url.PathUnescape(sent[i])
				if err != nil {
					continue paths
				}
				parameters[strings.Trim(segment, "{}")] = value
			} else if segment != sent[i] {
				continue paths
			}
		}
		return &routers.Route{Spec: doc, Path: template, PathItem: item, Method: r.Method, Operation: item.GetOperation(r.Method)}, parameters
	}
	elsewhere := openapi3.NewResponses(
		openapi3.WithStatus(http.StatusNotFound, doc.Components.Responses["NotFound"]),
		openapi3.WithStatus(http.StatusMethodNotAllowed, doc.Components.Responses["MethodNotAllowed"]),
		openapi3.WithStatus(http.StatusInternalServerError, doc.Components.Responses["InternalError"]),
	)
	elsewhere.Delete("default")
	return &routers.Route{Spec: doc, PathItem: &openapi3.PathItem{}, Operation: &openapi3.Operation{Responses: elsewhere}}, nil
}
