// Package apigateway stands between API Gateway and the hexagon: Authorizer turns a Lambda authorizer event into an IAM
// policy, and Proxy turns a proxy integration event into an http.Request and the response back into one. Both take and
// return bytes, as a Lambda handler does. REST events (payload 1.0) and HTTP API events (payload 2.0) are read alike.
//
// Nothing that a caller sent decides what a policy reaches: its resources are made of the route table and of the API
// and stage in the event's ARN. The request is rebuilt from the route and its parameters, never from the path as sent.
package apigateway
