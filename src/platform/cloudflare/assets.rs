//! Static files, through the binding of the file server beside the Worker.

use super::bindings::Fetcher;
use super::js::{self, Bindings};
use crate::platform::{Asset, Error, ErrorKind};
use js_sys::Uint8Array;
use wasm_bindgen::JsCast;

const BINDING: &str = "ASSETS";

#[derive(Clone)]
pub struct Assets(Bindings);

impl Assets {
    pub(super) fn new(bindings: Bindings) -> Self {
        Self(bindings)
    }

    /// The file at this path, which starts with `/`.
    pub async fn get(&self, path: &str) -> Result<Option<Asset>, Error> {
        let fail = |e| js::unavailable("static file", &e);
        let files: Fetcher = self.0.get(BINDING)?;
        // The binding looks at the path alone; a URL needs some host.
        let url = format!("https://assets.internal{path}");
        let promise = files.fetch(&url, &web_sys::RequestInit::new()).map_err(fail)?;
        let response: web_sys::Response = promise.await.map_err(fail)?.unchecked_into();
        match response.status() {
            200 => {}
            status => {
                js::discard_body(response.body());
                return if status == 404 {
                    Ok(None)
                } else {
                    let message = format!("static file {path}: status {status}");
                    Err(Error::new(ErrorKind::Unavailable, message))
                };
            }
        }
        let content_type = response.headers().get("content-type").ok().flatten();
        let buffer = response.array_buffer().map_err(fail)?.await.map_err(fail)?;
        Ok(Some(Asset {
            content_type: content_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
            bytes: Uint8Array::new(&buffer).to_vec(),
        }))
    }
}
