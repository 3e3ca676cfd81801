//! Ports of StateFun's playground kinds, which every command that runs an application serves.

use std::net::SocketAddr;

use axum::Router;
use satchel_engine::output::Stoppages;
use tokio::sync::watch;

use crate::egress::playground::PlaygroundTopics;
use crate::http::{PlaygroundEgress, PlaygroundIngress, Traffic, egress_routes, ingress_routes};
use crate::module::{Application, EgressAdapter, IngressAdapter};

/// Ingress and egress of the playground, if an application has them. Their ids are fixed, so there
/// is at most one of each.
pub(crate) struct Playground {
    /// Id and address of the ingress.
    ingress: Option<(String, SocketAddr)>,
    /// Address of the egress.
    egress: Option<SocketAddr>,
    /// Records of the egress.
    pub(crate) topics: PlaygroundTopics,
}

impl Playground {
    /// The playground's kinds of an application.
    pub(crate) fn of(application: &Application) -> Self {
        let mut ingresses = application.ingresses.iter();
        let ingress = ingresses.find_map(|ingress| match &ingress.adapter {
            IngressAdapter::Playground(playground) => {
                Some((ingress.id.to_string(), playground.address))
            }
            _ => None,
        });
        let mut egresses = application.egresses.iter();
        let egress = egresses.find_map(|egress| match &egress.adapter {
            EgressAdapter::Playground(playground) => Some(playground),
            _ => None,
        });
        let topics = egress.into_iter().flat_map(|egress| egress.topics.clone());
        Self {
            ingress,
            egress: egress.map(|egress| egress.address),
            topics: PlaygroundTopics::new(topics),
        }
    }

    /// Addresses to listen on. Ingress and egress may share one.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let ingress = self.ingress.iter().map(|(_, address)| *address);
        ingress.chain(self.egress)
    }

    /// Routes of the port at `address`.
    pub(crate) fn routes(
        &self,
        address: SocketAddr,
        traffic: Traffic,
        stoppages: watch::Receiver<Stoppages>,
    ) -> Router {
        let mut routes = Router::new();
        if self.egress == Some(address) {
            routes = routes.merge(egress_routes(PlaygroundEgress {
                topics: self.topics.clone(),
                readiness: traffic.readiness.clone(),
            }));
        }
        if let Some((id, at)) = &self.ingress
            && *at == address
        {
            routes = routes.merge(ingress_routes(PlaygroundIngress {
                traffic,
                id: id.clone(),
                stoppages,
            }));
        }
        routes
    }
}
