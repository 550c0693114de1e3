# The REST API: a resource and a method for each route of routes.json, which a test keeps equal to domain.Routes.

locals {
  routes = { for route in jsondecode(file("${path.module}/routes.json")) : "${route.method} ${route.path}" => merge(route, {
    node = trimprefix(route.path, "/")
  }) }

  # Every path and what it begins with: jobs, jobs/{id}, jobs/{id}/cancel. A resource block cannot name itself as a
  # parent, so that there is one for each depth.
  nodes = toset(flatten([for route in local.routes : [
    for depth in range(length(split("/", route.node))) : join("/", slice(split("/", route.node), 0, depth + 1))
  ]]))
  resource_ids = { for node, resource in merge(
    aws_api_gateway_resource.depth_1, aws_api_gateway_resource.depth_2, aws_api_gateway_resource.depth_3,
  ) : node => resource.id }
}

resource "aws_api_gateway_rest_api" "jobs" {
  name                         = var.name
  description                  = "Authenticated job intake"
  disable_execute_api_endpoint = var.domain != null
  tags                         = var.tags

  endpoint_configuration {
    types = ["REGIONAL"]
  }
}

resource "aws_api_gateway_resource" "depth_1" {
  for_each = { for node in local.nodes : node => node if length(split("/", node)) == 1 }

  rest_api_id = aws_api_gateway_rest_api.jobs.id
  parent_id   = aws_api_gateway_rest_api.jobs.root_resource_id
  path_part   = each.key
}

resource "aws_api_gateway_resource" "depth_2" {
  for_each = { for node in local.nodes : node => node if length(split("/", node)) == 2 }

  rest_api_id = aws_api_gateway_rest_api.jobs.id
  parent_id   = aws_api_gateway_resource.depth_1[dirname(each.key)].id
  path_part   = basename(each.key)
}

resource "aws_api_gateway_resource" "depth_3" {
  for_each = { for node in local.nodes : node => node if length(split("/", node)) == 3 }

  rest_api_id = aws_api_gateway_rest_api.jobs.id
  parent_id   = aws_api_gateway_resource.depth_2[dirname(each.key)].id
  path_part   = basename(each.key)
}

resource "aws_api_gateway_method" "route" {
  for_each = local.routes

  rest_api_id   = aws_api_gateway_rest_api.jobs.id
  resource_id   = local.resource_ids[each.value.node]
  http_method   = each.value.method
  authorization = each.value.public ? "NONE" : "CUSTOM"
  authorizer_id = each.value.public ? null : aws_api_gateway_authorizer.auth.id
}

resource "aws_api_gateway_integration" "route" {
  for_each = local.routes

  rest_api_id             = aws_api_gateway_rest_api.jobs.id
  resource_id             = local.resource_ids[each.value.node]
  http_method             = aws_api_gateway_method.route[each.key].http_method
  type                    = "AWS_PROXY"
  integration_http_method = "POST"
  uri                     = aws_lambda_function.function["jobs"].invoke_arn
}

resource "aws_lambda_permission" "route" {
  for_each = local.routes

  # A statement's id has letters, digits, hyphens and underscores.
  statement_id  = join("-", regexall("[A-Za-z0-9]+", each.key))
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function["jobs"].function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_api_gateway_rest_api.jobs.execution_arn}/${var.stage_name}/${each.value.method}${replace(each.value.path, "/{[^}]+}/", "*")}"
}

# The deployment is a snapshot: what is not in this hash would be applied and not live. Chosen attributes and inputs, for
# an attribute that is not set is null at first and empty after a refresh, and the second plan would not be empty.
resource "aws_api_gateway_deployment" "jobs" {
  rest_api_id = aws_api_gateway_rest_api.jobs.id

  triggers = {
    redeployment = sha1(jsonencode([
      local.routes,
      local.authorizer,
      local.gateway_responses,
      local.preflights,
      aws_api_gateway_rest_api.jobs.disable_execute_api_endpoint,
      aws_api_gateway_authorizer.auth.id,
      aws_api_gateway_authorizer.auth.authorizer_uri,
      { for key, resource in aws_api_gateway_resource.depth_1 : key => resource.id },
      { for key, resource in aws_api_gateway_resource.depth_2 : key => resource.id },
      { for key, resource in aws_api_gateway_resource.depth_3 : key => resource.id },
      { for key, method in aws_api_gateway_method.route : key => [method.id, method.authorization] },
      { for key, integration in aws_api_gateway_integration.route : key => [integration.id, integration.type, integration.uri] },
      { for key, response in aws_api_gateway_gateway_response.response : key => response.id },
      { for key, method in aws_api_gateway_method.preflight : key => method.id },
      { for key, integration in aws_api_gateway_integration.preflight : key => integration.id },
      { for key, response in aws_api_gateway_method_response.preflight : key => response.id },
      { for key, response in aws_api_gateway_integration_response.preflight : key => response.id },
    ]))
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_stage" "jobs" {
  rest_api_id          = aws_api_gateway_rest_api.jobs.id
  deployment_id        = aws_api_gateway_deployment.jobs.id
  stage_name           = var.stage_name
  xray_tracing_enabled = var.tracing
  tags                 = var.tags

  dynamic "access_log_settings" {
    for_each = aws_cloudwatch_log_group.access

    content {
      destination_arn = access_log_settings.value.arn
      format          = local.access_log_format
    }
  }

  depends_on = [aws_api_gateway_account.this]
}

resource "aws_api_gateway_method_settings" "all" {
  rest_api_id = aws_api_gateway_rest_api.jobs.id
  stage_name  = aws_api_gateway_stage.jobs.stage_name
  method_path = "*/*"

  settings {
    metrics_enabled        = true
    logging_level          = "OFF" # an execution log holds tokens and payloads
    data_trace_enabled     = false
    throttling_rate_limit  = var.throttling.rate
    throttling_burst_limit = var.throttling.burst
  }
}

resource "aws_api_gateway_method_settings" "route" {
  for_each = var.route_throttling

  rest_api_id = aws_api_gateway_rest_api.jobs.id
  stage_name  = aws_api_gateway_stage.jobs.stage_name
  # Slashes of the path are ~1 here (https://docs.aws.amazon.com/apigateway/latest/api/API_Stage.html, methodSettings).
  method_path = "${replace(local.routes[each.key].path, "/", "~1")}/${local.routes[each.key].method}"

  settings {
    metrics_enabled        = true
    logging_level          = "OFF"
    data_trace_enabled     = false
    throttling_rate_limit  = each.value.rate
    throttling_burst_limit = each.value.burst
  }

  # Settings of all methods, written later, would undo these.
  depends_on = [aws_api_gateway_method_settings.all]
}

# Access log

resource "aws_cloudwatch_log_group" "access" {
  count = var.access_logs ? 1 : 0

  name              = "/aws/apigateway/${var.name}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

locals {
  # Nothing that a caller sent but the method and where from. authorizer_request_id is the invocation that the
  # authorizer's log names, decision_id what a refused caller was told.
  access_log_format = jsonencode({
    request_id             = "$context.requestId"
    extended_request_id    = "$context.extendedRequestId"
    time                   = "$context.requestTime"
    source_ip              = "$context.identity.sourceIp"
    method                 = "$context.httpMethod"
    resource               = "$context.resourcePath"
    status                 = "$context.status"
    response_type          = "$context.error.responseType"
    error                  = "$context.error.message"
    response_length        = "$context.responseLength"
    response_latency       = "$context.responseLatency"
    authorizer_status      = "$context.authorizer.status"
    authorizer_error       = "$context.authorizer.error"
    authorizer_latency     = "$context.authorizer.latency"
    authorizer_request_id  = "$context.authorizer.requestId"
    decision_id            = "$context.authorizer.decision_id"
    integration_status     = "$context.integration.status"
    integration_error      = "$context.integration.error"
    integration_latency    = "$context.integration.latency"
    integration_request_id = "$context.integration.requestId"
  })
}

# Custom domain

resource "aws_api_gateway_domain_name" "jobs" {
  count = var.domain == null ? 0 : 1

  domain_name              = var.domain.name
  regional_certificate_arn = var.domain.certificate_arn
  security_policy          = "TLS_1_2"
  tags                     = var.tags

  endpoint_configuration {
    types = ["REGIONAL"]
  }
}

resource "aws_api_gateway_base_path_mapping" "jobs" {
  count = var.domain == null ? 0 : 1

  api_id      = aws_api_gateway_rest_api.jobs.id
  stage_name  = aws_api_gateway_stage.jobs.stage_name
  domain_name = aws_api_gateway_domain_name.jobs[0].domain_name
  base_path   = var.domain.base_path == "" ? null : var.domain.base_path
}
