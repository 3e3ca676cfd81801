# Security groups and the load balancer of the coordinator.

resource "aws_security_group" "coordinator" {
  name        = "${var.name}-coordinator"
  description = "The coordinators of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

# For the AWS APIs, and functions that are served over HTTP.
resource "aws_vpc_security_group_egress_rule" "out" {
  security_group_id = aws_security_group.coordinator.id
  description       = "AWS APIs and HTTP endpoints"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
  tags              = var.tags
}

# For the handover from the owner to a standby, requests that are forwarded to the owner, and
# messages between partitions of different tasks.
resource "aws_vpc_security_group_ingress_rule" "peers" {
  security_group_id            = aws_security_group.coordinator.id
  description                  = "Coordinators among themselves"
  ip_protocol                  = "tcp"
  from_port                    = local.traffic_port
  to_port                      = local.peer_port
  referenced_security_group_id = aws_security_group.coordinator.id
  tags                         = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(var.client_cidr_blocks)

  security_group_id = aws_security_group.coordinator.id
  description       = "Clients of the traffic port"
  ip_protocol       = "tcp"
  from_port         = local.traffic_port
  to_port           = local.traffic_port
  cidr_ipv4         = each.value
  tags              = var.tags
}

# A load balancer in front of the traffic port, inside the network. It balances across zones,
# because the owner may be in another zone than its client.
resource "aws_lb" "traffic" {
  count = var.load_balancer == null ? 0 : 1

  name                             = var.load_balancer
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = var.subnet_ids
  security_groups                  = [aws_security_group.balancer[0].id]
  enable_cross_zone_load_balancing = true
  tags                             = var.tags
}

resource "aws_security_group" "balancer" {
  count = var.load_balancer == null ? 0 : 1

  name        = "${var.name}-balancer"
  description = "The load balancer of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each = toset(var.load_balancer == null ? [] : var.client_cidr_blocks)

  security_group_id = aws_security_group.balancer[0].id
  description       = "Clients"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = each.value
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  count = var.load_balancer == null ? 0 : 1

  security_group_id            = aws_security_group.balancer[0].id
  description                  = "Traffic, and how a coordinator is"
  ip_protocol                  = "tcp"
  from_port                    = local.traffic_port
  to_port                      = local.admin_port
  referenced_security_group_id = aws_security_group.coordinator.id
  tags                         = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "from_balancer" {
  count = var.load_balancer == null ? 0 : 1

  security_group_id            = aws_security_group.coordinator.id
  description                  = "The load balancer"
  ip_protocol                  = "tcp"
  from_port                    = local.traffic_port
  to_port                      = local.admin_port
  referenced_security_group_id = aws_security_group.balancer[0].id
  tags                         = var.tags
}

resource "aws_lb_target_group" "traffic" {
  count = var.load_balancer == null ? 0 : 1

  name                 = var.load_balancer
  vpc_id               = var.vpc_id
  target_type          = "ip"
  protocol             = "TCP"
  port                 = local.traffic_port
  deregistration_delay = coalesce(var.stop_timeout_seconds, 25)
  tags                 = var.tags

  health_check {
    protocol = "HTTP"
    port     = local.admin_port
    # A task that forwards answers, whatever it owns, until it is to stop. One that does not forward
    # is healthy too.
    path                = var.forwarding ? "/readyz/traffic" : "/healthz"
    matcher             = "200"
    interval            = 5
    timeout             = 2
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "traffic" {
  count = var.load_balancer == null ? 0 : 1

  load_balancer_arn = aws_lb.traffic[0].arn
  protocol          = "TCP"
  port              = 80
  tags              = var.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.traffic[0].arn
  }
}
