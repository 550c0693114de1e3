package domain

// Action is what a caller wants, free of HTTP.
type Action string

// The actions that a policy grants.
const (
	ActionSubmit  Action = "submit"
	ActionRead    Action = "read"
	ActionCancel  Action = "cancel"
	ActionRedrive Action = "redrive"
)

// Actions lists every action.
var Actions = []Action{ActionSubmit, ActionRead, ActionCancel, ActionRedrive}

// Route is one line of the route table.
type Route struct {
	Method  string
	Pattern string // net/http.ServeMux syntax; {id} is one path segment
	Action  Action // empty on a public route
	Public  bool   // served without a token
}

// Routes is the one route table: what the REST API serves, what the gateways and Terraform expose, and what an
// AccessPolicy is compiled over.
var Routes = []Route{
	{Method: "POST", Pattern: "/jobs", Action: ActionSubmit},
	{Method: "GET", Pattern: "/jobs", Action: ActionRead},
	{Method: "GET", Pattern: "/jobs/{id}", Action: ActionRead},
	{Method: "POST", Pattern: "/jobs/{id}/cancel", Action: ActionCancel},
	{Method: "POST", Pattern: "/jobs/{id}/redrive", Action: ActionRedrive},
	{Method: "GET", Pattern: "/openapi.json", Public: true},
}
